//! Random runs about pins: `cargo run --release -p pagemesh-sim --example pinners -- FIRST_SEED HOW_MANY`.

use pagemesh_sim::{PinCounts, Pinners, run_pins};
use std::time::Instant;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<u64>());
    let first = arguments.next().transpose()?.unwrap_or(0);
    let count = arguments.next().transpose()?.unwrap_or(10_000);
    let began = Instant::now();
    let mut sum = PinCounts::default();
    for seed in first..first.saturating_add(count) {
        let counts = run_pins(&Pinners::draw(seed)).map_err(|failed| anyhow::anyhow!("{failed}"))?;
        sum.add(&counts);
    }
    println!("{count} seeds in {:.1} s: {sum:?}", began.elapsed().as_secs_f64());
    Ok(())
}
