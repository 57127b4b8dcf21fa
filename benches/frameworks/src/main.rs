//! densely beside JAX, ONNX Runtime, PyTorch, Keras, burn and candle on the same training and inference, in one run.
//!
//! Each contestant is a process with its own threads. All have the same samples and begin with the same weights;
//! answers are compared before anyone's time is taken. Contestants take turns; figures are medians.

mod child;
#[path = "../../common/data.rs"]
#[allow(dead_code)]
mod data;
mod table;
mod work;

use std::io::IsTerminal;
use std::time::Duration;

use child::{Child, Epoch, FRAMEWORKS, Framework, Place};
use densely_frameworks::Result;
use table::{Table, Times};
use work::{Part, Work};

const HELP: &str = "\
usage: densely-frameworks [options]
  --threads N      threads of every contestant (default 2); all but densely answer on one thread, too, and the better counts
  --rounds N       turns of each contestant (default 15)
  --millis N       least length of a turn of inference (default 50); one of training is an epoch
  --parts L        of train,step,infer (default: all)
  --only L         of jax,onnxruntime,torch,keras,burn,burn-v4,candle,candle-v4, or none (default: all that are there)
  --python PYTHON  an interpreter that has those of Python (default python3)
Set DENSELY_ISA to force densely's instruction set. benches/record/frameworks builds and installs what this needs.";

/// After this long without a call every contestant's threads sleep.
const SETTLE: Duration = Duration::from_millis(20);

/// How far an answer's logarithms may be from densely's.
const ANSWER_BOUND: f32 = 1e-4;

/// How far the first epoch's loss may be from densely's, as a part of it: orders of samples differ.
const LOSS_BOUND: f64 = 0.05;

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

/// A contestant on a number of threads.
struct Player {
    framework: &'static Framework,
    threads: usize,
    /// None once it was dropped.
    child: Option<Child>,
}

impl Player {
    fn name(&self) -> String {
        format!("{} on {} thread(s)", self.framework.name, self.threads)
    }

    fn takes(&self, part: Part) -> bool {
        self.child.is_some() && if part == Part::Infer { self.framework.infers } else { self.framework.trains }
    }
}

fn main() -> Result<()> {
    let options = options()?;
    let folder = std::env::current_exe()?.with_file_name("turns");
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    work::prepare(&folder, &options.parts)?;
    let place = Place { folder: &folder, python: &options.python };
    let mut players = start(&options, &place)?;
    println!(
        "{} thread(s), {} round(s); medians of milliseconds an epoch, microseconds a step and a call; ratio: theirs / \
         densely's; *: on one thread, where that is better",
        options.threads, options.rounds
    );
    let names: Vec<&str> = players.iter().map(|player| player.framework.name).collect();
    let mut table = Table::new(&names, options.threads);
    for &part in &options.parts {
        if part == Part::Infer {
            start_singles(&options, &place, &mut players);
        }
        for work in Work::of(part) {
            let times = measure(&options, &work, &mut players)?;
            table.row(&work, times);
        }
        players.retain(|player| player.threads == options.threads);
    }
    table.end();
    let gone: Vec<&str> = names.into_iter().filter(|name| !here(&players, name)).collect();
    if !gone.is_empty() {
        println!("DROPPED on the way: {}", gone.join(", "));
    }
    Ok(())
}

fn here(players: &[Player], name: &str) -> bool {
    players.iter().any(|player| player.framework.name == name && player.child.is_some())
}

/// Starts all that take part, densely first. Who is not there is left out, with a word, unless it was asked for by name.
fn start(options: &Options, place: &Place<'_>) -> Result<Vec<Player>> {
    let mut players = Vec::new();
    for (i, framework) in FRAMEWORKS.iter().enumerate() {
        let wanted = options.only.as_ref().map(|only| only.iter().any(|name| name == framework.name));
        let needed = options.parts.iter().any(|&part| match part {
            Part::Infer => framework.infers,
            _ => framework.trains,
        });
        if i > 0 && (wanted == Some(false) || !needed) {
            continue;
        }
        match Child::start(framework, options.threads, place) {
            Ok(child) => {
                println!("{}: {}", framework.name, child.about);
                players.push(Player { framework, threads: options.threads, child: Some(child) });
            }
            Err(error) if i == 0 || wanted.is_some() => return Err(format!("{}: {error}", framework.name).into()),
            Err(error) => println!("SKIPPED: {}: {error}", framework.name),
        }
    }
    Ok(players)
}

/// Starts the others once more on one thread: where the work is small, that can be their best.
fn start_singles(options: &Options, place: &Place<'_>, players: &mut Vec<Player>) {
    if options.threads == 1 {
        return;
    }
    for framework in FRAMEWORKS[1..].iter().filter(|framework| framework.infers) {
        if here(players, framework.name) {
            let child = Child::start(framework, 1, place);
            let mut player = Player { framework, threads: 1, child: None };
            match child {
                Ok(child) => player.child = Some(child),
                Err(error) => println!("DROPPED: {}: {error}", player.name()),
            }
            players.push(player);
        }
    }
}

/// What a contestant has done at a piece of work.
struct Turns<'a> {
    player: &'a mut Player,
    /// Of training: the first epoch, which is not counted, and the last.
    epochs: Option<[Epoch; 2]>,
    times: Vec<f64>,
}

impl Turns<'_> {
    fn take(&mut self, work: &Work, turn: Duration) -> std::result::Result<(), String> {
        let child = self.player.child.as_mut().ok_or("it was dropped")?;
        std::thread::sleep(SETTLE);
        let time = match &mut self.epochs {
            Some([_, last]) => {
                *last = child.train(work)?;
                last.time
            }
            None => child.infer(work, turn)?,
        };
        self.times.push(time);
        Ok(())
    }
}

/// What the others' answers are compared with.
enum Expected {
    Loss(f64),
    Answer(Vec<f32>),
}

/// Lets all take turns at some work. Who fails or gives another answer is dropped, with a word; densely may not.
fn measure(options: &Options, work: &Work, players: &mut [Player]) -> Result<Vec<Times>> {
    let mut expected = None;
    let mut all: Vec<Turns<'_>> = Vec::new();
    for player in players.iter_mut().filter(|player| player.takes(work.part)) {
        progress(&format!("{}: {} begins", work.name(), player.name()));
        match check(work, player, &mut expected) {
            Ok(epochs) => all.push(Turns { player, epochs, times: Vec::new() }),
            Err(error) => drop_out(work, player, &error)?,
        }
    }
    for round in 1..=options.rounds {
        for turns in &mut all {
            progress(&format!("{}: round {round}, {}", work.name(), turns.player.name()));
            if turns.player.child.is_some()
                && let Err(error) = turns.take(work, options.turn)
            {
                drop_out(work, turns.player, &error)?;
            }
        }
    }
    progress("");
    for turns in &mut all {
        if let Some([first, last]) = turns.epochs
            && turns.player.child.is_some()
            && last.loss >= first.loss
        {
            let error = format!("it does not learn: a loss of {} became {}", first.loss, last.loss);
            drop_out(work, turns.player, &error)?;
        }
    }
    let finished = all.into_iter().filter(|turns| turns.player.child.is_some());
    let times = finished.map(|Turns { player, times, .. }| {
        let Player { framework, threads, .. } = player;
        Times { name: framework.name, threads: *threads, times }
    });
    Ok(times.collect())
}

/// Asks for a first answer, which has to be like densely's; of training, that is the first epoch.
fn check(
    work: &Work,
    player: &mut Player,
    expected: &mut Option<Expected>,
) -> std::result::Result<Option<[Epoch; 2]>, String> {
    let child = player.child.as_mut().ok_or("it was dropped")?;
    if work.part == Part::Infer {
        let answer = child.log_probabilities(work)?;
        if let Some(Expected::Answer(expected)) = expected {
            let close = answer.iter().zip(expected.iter()).all(|(a, b)| (a - b).abs() <= ANSWER_BOUND);
            if answer.len() != expected.len() || !close {
                return Err("it gives another answer".into());
            }
        }
        expected.get_or_insert(Expected::Answer(answer));
        return Ok(None);
    }
    let first = child.train(work)?;
    if let Some(Expected::Loss(expected)) = *expected
        && (first.loss - expected).abs() > LOSS_BOUND * expected
    {
        return Err(format!("its loss in the first epoch is {}, where densely's is {expected}", first.loss));
    }
    expected.get_or_insert(Expected::Loss(first.loss));
    Ok(Some([first, first]))
}

fn drop_out(work: &Work, player: &mut Player, error: &str) -> Result<()> {
    let message = format!("{}, at {}: {error}", player.name(), work.name());
    player.child = None;
    if player.framework.name == FRAMEWORKS[0].name {
        return Err(message.into());
    }
    progress("");
    println!("DROPPED: {message}");
    Ok(())
}

/// Tells who is at work, to someone who watches.
fn progress(line: &str) {
    if std::io::stderr().is_terminal() {
        eprint!("\r{line}\x1b[K");
    }
}
