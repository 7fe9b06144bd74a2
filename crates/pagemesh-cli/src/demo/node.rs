//! One node of a game.

use std::fs::{self, File};
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use pagemesh::{Config, DepartureKind, Mesh};
use pagemesh_demos::life::{self, Ending, LifeError, Plan};
use pagemesh_demos::rle;
use pagemesh_demos::view::View;
use rustix::termios::tcgetwinsize;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::{LifeNodeArguments, TITLE};
use crate::say::{say, told};

/// Exit code of a node that was told to stop, as a shell has it for SIGINT.
const EXIT_STOPPED: u8 = 130;

/// Plays one node's part and says on standard error what went wrong, if anything did.
pub(super) fn life(arguments: &LifeNodeArguments) -> ExitCode {
    let stop = Arc::new(AtomicBool::new(false));
    let mut name = "a node".to_owned();
    play(arguments, &stop, &mut name).unwrap_or_else(|error| {
        // All nodes are told to stop at once; that some see others leave is no news.
        if stop.load(Ordering::Relaxed) {
            return ExitCode::from(EXIT_STOPPED);
        }
        complain(&name, &error);
        ExitCode::FAILURE
    })
}

fn complain(name: &str, error: &anyhow::Error) {
    eprintln!("{TITLE}: {name}: {}", told(error));
}

fn play(
    arguments: &LifeNodeArguments,
    stop: &Arc<AtomicBool>,
    name: &mut String,
) -> anyhow::Result<ExitCode> {
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(stop)).context("signals cannot be handled")?;
    }
    let config = Config::from_env().context("this subcommand is for `pagemesh demo life` to start")?;
    let pattern = rle::parse(&fs::read(&arguments.pattern).context("the pattern cannot be read")?)?;
    let plan = Plan::new(arguments.game.grid, pattern, arguments.game.generations)?;
    let mesh = Mesh::join(config)?;
    *name = format!("node {}", mesh.node());
    let mut view = if mesh.node().index() == 0 { make_view(arguments) } else { None };
    let ending = life::play(&mesh, &plan, view.as_mut(), stop);
    // The terminal is as it was before anything else is written to it.
    drop(view);
    match ending {
        Ok(ending) => {
            let written = ending.map_or(Ok(()), |ending| report(arguments, mesh.nodes(), &ending));
            // That it cannot be written is not the others' fault.
            let left = mesh.leave();
            written?;
            left?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error @ LifeError::NodeLost { how: DepartureKind::Died, .. }) => {
            complain(name, &error.into());
            // Whoever leaves before the others have noticed is taken for the cause. This fails: a node is missing.
            let _ = mesh.leave();
            Ok(ExitCode::FAILURE)
        }
        Err(error) => Err(error.into()),
    }
}

fn make_view(arguments: &LifeNodeArguments) -> Option<View<io::Stdout>> {
    let view = View::new(io::stdout(), arguments.view?.into())
        .measured_by(|| tcgetwinsize(io::stdout()).ok().map(|size| (size.ws_col, size.ws_row)));
    Some(match arguments.game.speed {
        Some(speed) => view.generations_per_second_max(speed),
        None => view,
    })
}

/// Says how the game ended; the population comes last.
fn report(arguments: &LifeNodeArguments, nodes: usize, ending: &Ending) -> anyhow::Result<()> {
    let written = arguments.game.output.as_deref().map_or(Ok(()), |path| {
        let mut file = io::BufWriter::new(File::create(path)?);
        rle::write(&ending.grid, &mut file)?;
        file.flush()
    });
    say(format_args!(
        "{} on {} cells, {nodes} {}: {} generations in {:.3} s\npopulation {}\n",
        arguments.label.display(),
        arguments.game.grid,
        if nodes == 1 { "node" } else { "nodes" },
        arguments.game.generations,
        ending.elapsed.as_secs_f64(),
        ending.grid.population()
    ))?;
    // How the game ended is said all the same.
    written.with_context(|| {
        let path = arguments.game.output.clone().unwrap_or_default();
        format!("output file `{}` cannot be written; make room, or name another", path.display())
    })
}
