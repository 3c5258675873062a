//! What a good pair of vnets keeps beside each kind of hog in its system; see
//! [`vnet_benches::hogs`]. Each run is told as it ends, and the table follows. Run it in release mode on an idle machine.

use std::time::Duration;

use clap::Parser;
use comfy_table::Table;
use vnet_benches::hogs::{AnyError, At, Hog, RunError, Work, run};
use vnet_benches::report::numbers_right;

#[derive(Parser)]
struct Args {
    /// Runs of each kind; the medians are printed.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Milliseconds of each run.
    #[arg(long, default_value_t = 200)]
    millis: u64,
    /// Only hogs whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
}

/// Requests and bytes a second.
type Figures = [f64; 2];

fn main() -> Result<(), AnyError> {
    let args = Args::parse();
    let mut rows: Vec<(Hog, At)> = Vec::new();
    for hog in Hog::ALL {
        rows.push((hog, At::Bystander));
        if hog.has_target() {
            rows.push((hog, At::Server));
        }
    }
    let is_peer = |hog| matches!(hog, Hog::None | Hog::Thread);
    rows.retain(|(hog, _)| is_peer(*hog) || hog.name().contains(&args.only));
    let mut figures = vec![[Vec::new(), Vec::new()]; rows.len()];
    let mut failed = Vec::new();
    // Each run of one has one of every other beside it: what the machine does meanwhile meets all.
    for round in 1..=args.runs {
        for ((hog, at), figures) in rows.iter().zip(&mut figures) {
            let beside = format!("{} {}", hog.name(), place(*hog, *at));
            for (work, figures) in [Work::Requests, Work::Bulk].into_iter().zip(figures) {
                let told = match run(*hog, *at, work, Duration::from_millis(args.millis)) {
                    Ok(figure) => {
                        figures.push(figure);
                        format!("{figure:.0}/s")
                    }
                    Err(error @ RunError::Stuck { .. }) => {
                        return Err(format!("{beside}: {work:?}: {error}").into());
                    }
                    Err(error) => {
                        // Whoever is starved did nothing, as far as the table is concerned.
                        figures.push(0.0);
                        failed.push(format!("{beside}: {work:?}: {error}"));
                        error.to_string()
                    }
                };
                eprintln!("{round}/{} {beside}: {work:?}: {told}", args.runs);
            }
        }
    }
    let medians: Vec<Figures> = figures.into_iter().map(|both| both.map(median)).collect();
    let fair = rows.iter().position(|(hog, _)| *hog == Hog::Thread);
    let fair = medians[fair.expect("the thread is never left out")];
    let mut table = Table::new();
    table.set_header(["beside", "at", "requests/s", "ratio", "MB/s", "ratio"]);
    for ((hog, at), [requests, bytes]) in rows.iter().zip(medians) {
        table.add_row([
            hog.name().to_owned(),
            place(*hog, *at).to_owned(),
            format!("{requests:.0}"),
            format!("{:.2}", requests / fair[0]),
            format!("{:.0}", bytes / 1e6),
            format!("{:.2}", bytes / fair[1]),
        ]);
    }
    numbers_right(&mut table, 2);
    println!("{table}");
    match failed.is_empty() {
        true => Ok(()),
        false => Err(failed.join("; ").into()),
    }
}

fn place(hog: Hog, at: At) -> &'static str {
    match at {
        _ if !hog.has_target() => "",
        At::Bystander => "a bystander",
        At::Server => "the server",
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
