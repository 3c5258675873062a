//! A tokio runtime of a vnet in real time: an ordinary one, which ends with its vnet.

use std::collections::BTreeMap;
use std::future::{Future, pending, poll_fn};
use std::io::{self, ErrorKind};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use tokio::runtime::{Builder, Handle};
use vnet::{SocketError, Vnet, beside};

use crate::host::{inside_a_runtime, lock};

/// A runtime with a thread of its own.
pub(crate) struct Threaded {
    vnet: Vnet,
    handle: Handle,
    state: Mutex<State>,
}

struct State {
    /// Not there any more when the vnet is gone.
    runtime: Option<tokio::runtime::Runtime>,
    /// Who waits in `block_on`, and is told then.
    callers: BTreeMap<u64, Waker>,
    next: u64,
}

impl Threaded {
    /// A runtime for `vnet`, and the task of the vnet with which it ends.
    pub(crate) fn new(
        vnet: &Vnet,
    ) -> io::Result<(Arc<Threaded>, impl Future<Output = ()> + use<>)> {
        let theirs = vnet.clone();
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .thread_name(format!("vnet-{}", vnet.name()))
            // It is current until the thread ends.
            .on_thread_start(move || std::mem::forget(theirs.enter()))
            .build()?;
        let threaded = Arc::new(Threaded {
            vnet: vnet.clone(),
            handle: runtime.handle().clone(),
            state: Mutex::new(State {
                runtime: Some(runtime),
                callers: BTreeMap::new(),
                next: 0,
            }),
        });
        let ends = Ends(Arc::clone(&threaded));
        let driving = async move {
            let _ends = ends;
            pending().await
        };
        Ok((threaded, driving))
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Runs `future` to its end on this thread.
    pub(crate) fn block_on<F: Future>(&self, future: F) -> io::Result<F::Output> {
        if beside::is_polling() || Handle::try_current().is_ok() {
            return Err(inside_a_runtime());
        }
        let _vnet = self.vnet.enter();
        let caller = {
            let mut state = lock(&self.state);
            state.next += 1;
            Caller(self, state.next)
        };
        let mut future = pin!(future);
        self.handle.block_on(poll_fn(|task| {
            {
                let mut state = lock(&self.state);
                if state.runtime.is_none() {
                    let gone = io::Error::new(ErrorKind::ConnectionAborted, SocketError::Gone);
                    return Poll::Ready(Err(gone));
                }
                state.callers.insert(caller.1, task.waker().clone());
            }
            future.as_mut().poll(task).map(Ok)
        }))
    }

    fn shut_down(&self) {
        let (runtime, callers) = {
            let mut state = lock(&self.state);
            (state.runtime.take(), std::mem::take(&mut state.callers))
        };
        if let Some(runtime) = runtime {
            // Waiting for its thread is not possible everywhere; it ends by itself.
            runtime.shutdown_background();
        }
        callers.into_values().for_each(Waker::wake);
    }
}

/// Takes a caller out of the list.
struct Caller<'a>(&'a Threaded, u64);

impl Drop for Caller<'_> {
    fn drop(&mut self) {
        let waker = lock(&self.0.state).callers.remove(&self.1);
        drop(waker);
    }
}

/// The end of the vnet, or of the [`Runtime`](crate::Runtime).
struct Ends(Arc<Threaded>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.shut_down();
    }
}
