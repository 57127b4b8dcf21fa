//! densely beside JAX, ONNX Runtime, PyTorch, Keras, burn and candle on the same training and inference, in
//! one run.
//!
//! Each contestant is a process with its own threads. All have the same samples and begin with the same
//! weights; answers are compared before anyone's time is taken. Contestants take turns; figures are medians.
//! Before and after each turn it is measured where the machine has the threads run, so that turns in the same
//! place can be compared, too.

mod child;
mod contest;
#[path = "../../common/peak.rs"]
#[allow(dead_code)]
mod peak;
mod placement;
mod table;
mod work;

use std::time::Duration;

use child::{FRAMEWORKS, Place};
use contest::{measure, start};
use densely::Isa;
use densely_frameworks::Result;
use peak::Limits;
use table::{LEGEND, Table};
use work::{Part, Work};

const HELP: &str = "\
usage: densely-frameworks [options]
  --threads N      threads of every contestant (default 2); all run on one, too: of peers the better counts, and densely
                   has a column for it
  --rounds N       turns of each contestant (default 15)
  --millis N       least length of a turn of inference (default 50); one of training is an epoch
  --parts L        of train,step,infer (default: all)
  --only L         of jax,onnxruntime,torch,keras,burn,candle, or none (default: all that are there)
  --python PYTHON  an interpreter that has those of Python (default python3)
Set DENSELY_ISA to force densely's instruction set. benches/record/frameworks builds and installs what this needs.";

struct Options {
    threads: usize,
    rounds: usize,
    turn: Duration,
    parts: Vec<Part>,
    /// All that are there, if not given.
    only: Option<Vec<String>>,
    python: String,
}

fn options() -> std::result::Result<Options, lexopt::Error> {
    use lexopt::prelude::*;
    let mut options = Options {
        threads: 2,
        rounds: 15,
        turn: Duration::from_millis(50),
        parts: Part::ALL.to_vec(),
        only: None,
        python: "python3".into(),
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("threads") => options.threads = parser.value()?.parse()?,
            Long("rounds") => options.rounds = parser.value()?.parse()?,
            Long("millis") => options.turn = Duration::from_millis(parser.value()?.parse()?),
            Long("parts") => options.parts = parser.value()?.parse_with(parts)?,
            Long("only") => options.only = Some(parser.value()?.parse_with(only)?),
            Long("python") => options.python = parser.value()?.string()?,
            Long("help") => {
                println!("{HELP}");
                std::process::exit(0);
            }
            other => return Err(other.unexpected()),
        }
    }
    if options.threads == 0 || options.rounds == 0 {
        return Err("--threads and --rounds are at least 1".into());
    }
    Ok(options)
}

fn parts(text: &str) -> std::result::Result<Vec<Part>, String> {
    let known = |name: &str| {
        let found = Part::ALL.into_iter().find(|part| part.name() == name);
        found.ok_or_else(|| format!("{name} is none of {}", Part::ALL.map(Part::name).join(", ")))
    };
    text.split(',').map(known).collect()
}

fn only(text: &str) -> std::result::Result<Vec<String>, String> {
    let peers = &FRAMEWORKS[1..];
    let known = |name: &str| match peers.iter().any(|peer| peer.name == name) {
        true => Ok(name.to_owned()),
        false => {
            Err(format!("{name} is none of {}", peers.iter().map(|peer| peer.name).collect::<Vec<_>>().join(", ")))
        }
    };
    if text == "none" { Ok(Vec::new()) } else { text.split(',').map(known).collect() }
}

fn main() -> Result<()> {
    let options = options()?;
    let folder = std::env::current_exe()?.with_file_name("turns");
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    work::prepare(&folder, &options.parts)?;
    let mut players = start(&options, &Place { folder: &folder, python: &options.python })?;
    println!(
        "{} thread(s), {} round(s); medians of milliseconds an epoch, microseconds a step and a call; ratio: theirs / \
         densely's\n{LEGEND}",
        options.threads, options.rounds
    );
    let names: Vec<&str> = players.iter().map(|player| player.way.framework.name).collect();
    let mut table = Table::new(&names, options.threads);
    let limits = Limits::new(Isa::from_environment()?, options.threads);
    for work in options.parts.iter().flat_map(|&part| Work::of(part)) {
        let times = measure(&options, &work, &mut players, &limits)?;
        table.row(&work, &times);
    }
    table.end();
    for player in players.iter().filter(|player| player.child.is_none()) {
        println!("DROPPED on the way: {}", player.way);
    }
    Ok(())
}
