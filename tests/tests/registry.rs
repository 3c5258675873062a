//! Promise: whatever is registered, unregistered, created and destroyed, in whatever order, and
//! whatever fails on the way, every instance sees each init step once and its reverse once, in
//! mirrored order. Against a plain list, and from several threads at once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use vnet::{CreateError, InitRecord, OwnedVnet, RegisterError, Stage, System, Vnet};

/// How a step behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Conduct {
    Works,
    Fails,
    Panics,
}

/// A step that may be registered.
#[derive(Clone, Debug)]
struct Step {
    name: String,
    stage: Stage,
    order: i32,
    init: Conduct,
    /// Only instances whose number has this remainder of three see `init`; the others see it work.
    picky: Option<u64>,
    uninit: Conduct,
}

/// One thing that is done to a system.
#[derive(Clone, Debug)]
enum Act {
    Register(Step),
    Unregister(usize),
    Create(usize),
    Destroy(usize),
}

const STEPS: usize = 5;
const VNETS: usize = 5;
const STAGES: [Stage; 4] = [
    Stage::Interfaces,
    Stage::Protocols,
    Stage::Filters,
    Stage::Services,
];

fn conduct() -> impl Strategy<Value = Conduct> {
    prop_oneof![
        4 => Just(Conduct::Works),
        1 => Just(Conduct::Fails),
        1 => Just(Conduct::Panics),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let picky = prop_oneof![2 => (0..3u64).prop_map(Some), 1 => Just(None)];
    (
        0..STEPS,
        0..STAGES.len(),
        -1..2i32,
        conduct(),
        picky,
        conduct(),
    )
        .prop_map(|(name, stage, order, init, picky, uninit)| Step {
            name: format!("step{name}"),
            stage: STAGES[stage],
            order,
            init,
            picky,
            uninit,
        })
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => step().prop_map(Act::Register),
        2 => (0..STEPS).prop_map(Act::Unregister),
        3 => (0..VNETS).prop_map(Act::Create),
        2 => (0..VNETS).prop_map(Act::Destroy),
    ]
}

/// A name of an instance carries its number, so that a step can be picky.
fn number(vnet: &str) -> u64 {
    let digits = vnet.trim_start_matches(|c: char| !c.is_ascii_digit());
    digits.parse().expect("names end in numbers")
}

impl Step {
    fn init_in(&self, vnet: &str) -> Conduct {
        match self.picky {
            Some(rest) if number(vnet) % 3 != rest => Conduct::Works,
            _ => self.init,
        }
    }
}

/// What a step did in an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Did {
    Init(String),
    FailedInit(String),
    Uninit(String),
}

/// What was done in each life of each instance. A step is known by its name and the number of its
/// registration.
#[derive(Clone, Default)]
struct Journal(Arc<Mutex<BTreeMap<String, Vec<Did>>>>);

impl Journal {
    fn note(&self, vnet: &str, did: Did) {
        let mut journal = self.0.lock().expect("no panic under this lock");
        journal.entry(vnet.to_owned()).or_default().push(did);
    }

    fn of(&self, vnet: &str) -> Vec<Did> {
        let journal = self.0.lock().expect("no panic under this lock");
        journal.get(vnet).cloned().unwrap_or_default()
    }

    /// The record of `step`, which notes what it does. `tag` tells it from others of its name.
    fn record(&self, step: &Step, tag: u64) -> InitRecord {
        let (up, down) = (self.clone(), self.clone());
        let (at_init, at_uninit) = (step.clone(), step.clone());
        let key = format!("{}#{tag}", step.name);
        let key_down = key.clone();
        let init = move |vnet: &Vnet| {
            assert!(Vnet::current().is_some_and(|v| v.is(vnet)), "it is current");
            match at_init.init_in(vnet.name()) {
                Conduct::Works => {
                    up.note(vnet.name(), Did::Init(key.clone()));
                    // In a race, others may come between what a step does and its being noted. Not each
                    // time: on a busy machine whoever yields waits for a whole slice of time.
                    if tag.is_multiple_of(8) {
                        std::thread::yield_now();
                    }
                    Ok(())
                }
                Conduct::Fails => {
                    up.note(vnet.name(), Did::FailedInit(key.clone()));
                    Err("as told".into())
                }
                Conduct::Panics => {
                    up.note(vnet.name(), Did::FailedInit(key.clone()));
                    std::panic::panic_any("as told")
                }
            }
        };
        let uninit = move |vnet: &Vnet| {
            assert!(Vnet::current().is_some_and(|v| v.is(vnet)), "it is current");
            down.note(vnet.name(), Did::Uninit(key_down.clone()));
            match at_uninit.uninit {
                Conduct::Works => Ok(()),
                Conduct::Fails => Err("as told".into()),
                Conduct::Panics => std::panic::panic_any("as told"),
            }
        };
        InitRecord::new(&step.name, step.stage, step.order, init, uninit)
    }
}

/// Steps that are told to panic would fill the output.
fn quietly<R>(f: impl FnOnce() -> R) -> R {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if panic.payload().downcast_ref::<&str>() != Some(&"as told") {
                loud(panic);
            }
        }));
    });
    f()
}

/// The dumb model: a list of steps, and what each instance ran and saw.
#[derive(Default)]
struct Model {
    /// In the order in which a new instance runs them.
    steps: Vec<(Step, String)>,
    /// In the order of creation.
    vnets: Vec<(String, Vec<String>)>,
    seen: BTreeMap<String, Vec<Did>>,
}

impl Model {
    fn see(&mut self, vnet: &str, did: Did) {
        self.seen.entry(vnet.to_owned()).or_default().push(did);
    }

    fn register(&mut self, step: &Step, key: &str) -> Result<(), &'static str> {
        if self.steps.iter().any(|(s, _)| s.name == step.name) {
            return Err("exists");
        }
        let mut ran_in = Vec::new();
        for i in 0..self.vnets.len() {
            let name = self.vnets[i].0.clone();
            if step.init_in(&name) == Conduct::Works {
                self.see(&name, Did::Init(key.to_owned()));
                ran_in.push(i);
                continue;
            }
            self.see(&name, Did::FailedInit(key.to_owned()));
            for i in ran_in.into_iter().rev() {
                let name = self.vnets[i].0.clone();
                self.see(&name, Did::Uninit(key.to_owned()));
            }
            return Err("failed");
        }
        for i in ran_in {
            self.vnets[i].1.push(key.to_owned());
        }
        let place = (step.stage, step.order);
        let after = |(s, _): &(Step, String)| (s.stage, s.order) > place;
        let at = self
            .steps
            .iter()
            .position(after)
            .unwrap_or(self.steps.len());
        self.steps.insert(at, (step.clone(), key.to_owned()));
        Ok(())
    }

    fn unregister(&mut self, name: &str) -> Result<(), &'static str> {
        let at = self.steps.iter().position(|(s, _)| s.name == name);
        let (step, key) = self.steps.remove(at.ok_or("not found")?);
        let mut failed = false;
        for i in (0..self.vnets.len()).rev() {
            let (vnet, ran) = &mut self.vnets[i];
            let Some(at) = ran.iter().position(|k| *k == key) else {
                continue;
            };
            ran.remove(at);
            let vnet = vnet.clone();
            self.see(&vnet, Did::Uninit(key.clone()));
            failed |= step.uninit != Conduct::Works;
        }
        if failed { Err("failed") } else { Ok(()) }
    }

    fn create(&mut self, name: &str) -> Result<(), String> {
        if self.vnets.iter().any(|(n, _)| n == name) {
            return Err("exists".to_owned());
        }
        let mut ran = Vec::new();
        for (step, key) in self.steps.clone() {
            if step.init_in(name) == Conduct::Works {
                self.see(name, Did::Init(key.clone()));
                ran.push(key);
                continue;
            }
            self.see(name, Did::FailedInit(key));
            for key in ran.into_iter().rev() {
                self.see(name, Did::Uninit(key));
            }
            return Err(step.name);
        }
        self.vnets.push((name.to_owned(), ran));
        Ok(())
    }

    /// The steps undone, in that order.
    fn destroy(&mut self, name: &str) -> Vec<String> {
        let at = self.vnets.iter().position(|(n, _)| n == name);
        let (_, mut ran) = self.vnets.remove(at.expect("it is alive"));
        ran.reverse();
        for key in &ran {
            self.see(name, Did::Uninit(key.clone()));
        }
        ran
    }
}

fn words(result: Result<(), RegisterError>) -> Result<(), &'static str> {
    result.map_err(|e| match e {
        RegisterError::Exists(_) => "exists",
        RegisterError::NotFound(_) => "not found",
        RegisterError::Failed { .. } => "failed",
        _ => "something else",
    })
}

/// The users' steps among those that an instance ran.
fn ran(vnet: &Vnet) -> Vec<String> {
    let init = vnet.inspect().expect("alive").init.into_iter();
    init.map(|step| step.name)
        .filter(|n| n.starts_with("step"))
        .collect()
}

fn names(keys: &[String]) -> Vec<String> {
    let name = |k: &String| k.split('#').next().unwrap_or_default().to_owned();
    keys.iter().map(name).collect()
}

fn run(acts: &[Act]) {
    let system = System::manual(1);
    let journal = Journal::default();
    let mut model = Model::default();
    let mut owned: BTreeMap<String, OwnedVnet> = BTreeMap::new();
    for (tag, act) in acts.iter().enumerate() {
        match act {
            Act::Register(step) => {
                let key = format!("{}#{tag}", step.name);
                let told = words(system.register(journal.record(step, tag as u64)));
                assert_eq!(told, model.register(step, &key), "{act:?}");
            }
            Act::Unregister(n) => {
                let name = format!("step{n}");
                let told = words(system.unregister(&name));
                assert_eq!(told, model.unregister(&name), "{act:?}");
            }
            Act::Create(n) => {
                let name = format!("v{n}");
                let told = match system.create(&name) {
                    Ok(vnet) => {
                        owned.insert(name.clone(), vnet);
                        Ok(())
                    }
                    Err(CreateError::Exists(_)) => Err("exists".to_owned()),
                    Err(CreateError::Init { step, .. }) => Err(step),
                    Err(other) => Err(other.to_string()),
                };
                assert_eq!(told, model.create(&name), "{act:?}");
            }
            Act::Destroy(n) => {
                let name = format!("v{n}");
                let Some(vnet) = owned.remove(&name) else {
                    continue;
                };
                let report = vnet.destroy();
                assert!(report.leaked.is_zero(), "{report}");
                let undone = report.steps.iter().map(|s| s.name.clone());
                let undone: Vec<String> = undone.filter(|s| s.starts_with("step")).collect();
                assert_eq!(undone, names(&model.destroy(&name)));
            }
        }
        for (name, keys) in &model.vnets {
            assert_eq!(ran(&owned[name]), names(keys), "{name} after {act:?}");
        }
        let alive: Vec<&String> = model.vnets.iter().map(|(n, _)| n).collect();
        assert_eq!(system.names().iter().collect::<Vec<_>>(), alive);
    }
    for n in 0..VNETS {
        let name = format!("v{n}");
        if owned.remove(&name).is_some() {
            model.destroy(&name);
        }
        let seen = model.seen.get(&name).cloned().unwrap_or_default();
        assert_eq!(journal.of(&name), seen, "{name}");
        assert_balanced(&name, &seen);
    }
}

/// Every init has its uninit, and none has two.
#[track_caller]
fn assert_balanced(vnet: &str, seen: &[Did]) {
    let mut standing: Vec<&String> = Vec::new();
    for did in seen {
        match did {
            Did::Init(key) => {
                assert!(!standing.contains(&key), "{vnet}: {key} twice; {seen:?}");
                standing.push(key);
            }
            Did::FailedInit(key) => assert!(!standing.contains(&key), "{vnet}: {key}; {seen:?}"),
            Did::Uninit(key) => {
                let at = standing.iter().position(|k| *k == key);
                let at = at.unwrap_or_else(|| panic!("{vnet}: {key} was not up; {seen:?}"));
                standing.remove(at);
            }
        }
    }
    assert!(standing.is_empty(), "{vnet}: {standing:?} stand; {seen:?}");
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 512,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_instance_agrees_with_a_list(acts in prop::collection::vec(act(), 1..60)) {
        quietly(|| run(&acts));
    }

    /// Four threads at once. The names of instances are each thread's own, those of steps are
    /// everybody's; what a call says is for the schedule to decide, but never is an init without
    /// its uninit, nor one done twice.
    #[test]
    fn threads_leave_every_instance_balanced(
        scripts in prop::collection::vec(prop::collection::vec(act(), 1..40), 4),
    ) {
        quietly(|| race(&scripts));
    }
}

fn race(scripts: &[Vec<Act>]) {
    let system = System::manual(1);
    let journal = Journal::default();
    let (tags, lives) = (AtomicU64::new(0), AtomicU64::new(0));
    let start = std::sync::Barrier::new(scripts.len());
    std::thread::scope(|scope| {
        for script in scripts {
            let (system, journal, tags) = (&system, &journal, &tags);
            let (lives, start) = (&lives, &start);
            scope.spawn(move || {
                let mut owned: BTreeMap<usize, OwnedVnet> = BTreeMap::new();
                start.wait();
                for act in script {
                    match act {
                        Act::Register(step) => {
                            let tag = tags.fetch_add(1, Ordering::Relaxed);
                            let _ = system.register(journal.record(step, tag));
                        }
                        Act::Unregister(n) => {
                            let _ = system.unregister(&format!("step{n}"));
                        }
                        Act::Create(n) => {
                            // Each life has a name of its own, so that its journal has one.
                            let life = lives.fetch_add(1, Ordering::Relaxed);
                            if let Ok(vnet) = system.create(&format!("v{life}")) {
                                let before = owned.insert(*n, vnet);
                                drop(before);
                            }
                        }
                        Act::Destroy(n) => {
                            if let Some(vnet) = owned.remove(n) {
                                let report = vnet.destroy();
                                assert!(report.leaked.is_zero(), "{report}");
                            }
                        }
                    }
                }
            });
        }
    });
    assert_eq!(system.names(), [""; 0], "each thread dropped what it owned");
    let journal = journal.0.lock().expect("no panic under this lock");
    for (vnet, seen) in journal.iter() {
        assert_balanced(vnet, seen);
    }
}

/// While other threads register, unregister and create, an instance that outlives them has run in
/// the end exactly what is registered.
#[test]
fn an_instance_that_outlives_the_race_has_what_is_registered() {
    let works = |n: usize| Step {
        name: format!("step{n}"),
        stage: STAGES[n % STAGES.len()],
        order: 0,
        init: Conduct::Works,
        picky: None,
        uninit: Conduct::Works,
    };
    for _ in 0..300 {
        let system = System::manual(1);
        let journal = Journal::default();
        let tags = AtomicU64::new(0);
        let old = system.create("v1000").unwrap();
        let made = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (system, journal, tags, made) = (&system, &journal, &tags, &made);
                scope.spawn(move || {
                    for i in 0..20 {
                        let n = (thread + i) % STEPS;
                        let tag = tags.fetch_add(1, Ordering::Relaxed);
                        let _ = system.register(journal.record(&works(n), tag));
                        if i % 3 != 0 {
                            let other = (thread * 3 + i * 7) % STEPS;
                            let _ = system.unregister(&format!("step{other}"));
                        }
                        if i % 5 == 0 {
                            let vnet = system.create(&format!("v{}", thread * 100 + i)).unwrap();
                            made.lock().unwrap().push(vnet);
                        }
                    }
                });
            }
        });
        let mut made = made.into_inner().unwrap();
        made.push(old);
        let mut listed = system.init_steps();
        listed.retain(|s| s.starts_with("step"));
        listed.sort();
        for vnet in &made {
            let mut has = ran(vnet);
            has.sort();
            assert_eq!(has, listed, "{}", vnet.name());
        }
        drop(made);
        let journal = journal.0.lock().expect("no panic under this lock");
        for (vnet, seen) in journal.iter() {
            assert_balanced(vnet, seen);
        }
    }
}
