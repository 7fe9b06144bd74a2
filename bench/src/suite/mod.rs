//! The suites.

pub(crate) mod app;
mod bulk;
mod fault;
mod hand_over;
mod idle;
mod release;
mod scale;
mod shards;
mod sync;

use crate::ground::Ground;
use crate::machine;
use crate::plan::{Plan, Suite};
use crate::report::Run;
use anyhow::{Context, Result, bail};
use rustix::fd::OwnedFd;

/// Plays one of the nodes of a mesh that the environment names. The node that measures returns what it found, the others
/// nothing. `plain` is the file of [`Plan::plain_memory`], the same for all of them.
///
/// # Errors
/// When the plan cannot be, the nodes cannot join or share, or memory holds the wrong bytes.
pub fn run_node(plan: Plan, mut plain: Option<OwnedFd>) -> Result<Option<Run>> {
    let range = plan.suite.nodes_range();
    if !range.contains(&plan.nodes) {
        bail!("suite {} takes {} to {} nodes, not {}", plan.suite, range.start(), range.end(), plan.nodes);
    }
    if plan.rounds == 0 || plan.samples == 0 {
        bail!("{} rounds of {} samples measure nothing; ask for one at least", plan.rounds, plan.samples);
    }
    let load_before = machine::load();
    let (suite, figures) = (plan.suite, plan.figures.clone());
    let ground = Ground::join(plan)?;
    let mut cases = match suite {
        Suite::Fault => fault::cases(&ground, plain.take())?,
        Suite::Sync => sync::cases(&ground)?,
        Suite::Bulk => bulk::cases(&ground)?,
        Suite::Release => release::cases(&ground)?,
        Suite::Scale => scale::cases(&ground)?,
        Suite::Idle => idle::cases(&ground),
        Suite::App => Vec::new(),
    };
    cases.retain(|case| case.name().contains(&figures));
    let figures = if suite == Suite::App {
        app::measure(&ground, plain.context("programs were to be measured without plain memory")?)?
    } else {
        ground.measure(&cases)?
    };
    let stages = cases.iter().flat_map(|case| case.stages()).collect();
    drop(cases);
    let found = (!figures.is_empty()).then(|| ground.run(load_before, figures, stages));
    ground.mesh.leave()?;
    Ok(found)
}
