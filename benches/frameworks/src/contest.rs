//! Who takes part, and their turns.

use std::io::IsTerminal;
use std::time::Duration;

use densely_frameworks::Result;

use crate::Options;
use crate::child::{Child, Epoch, FRAMEWORKS, Framework, Place, Way};
use crate::peak::Limits;
use crate::placement::Standing;
use crate::table::{Times, Turn};
use crate::work::{Part, Work};

/// After this long without a call every contestant's threads sleep.
const SETTLE: Duration = Duration::from_millis(20);

/// How far an answer's logarithms may be from densely's.
const ANSWER_BOUND: f32 = 1e-4;

/// How far the first epoch's loss may be from densely's, as a part of it: orders of samples differ.
const LOSS_BOUND: f64 = 0.05;

/// Fails with what is to be told of a contestant.
type Outcome<T> = std::result::Result<T, String>;

/// A contestant.
pub struct Player {
    pub way: Way,
    /// None once it was dropped.
    pub child: Option<Child>,
}

impl Framework {
    fn takes(&self, part: Part) -> bool {
        if part == Part::Infer { self.infers } else { self.trains }
    }
}

/// Starts all that take part, densely first. Who is not there is left out, with a word, unless it was asked
/// for by name.
pub fn start(options: &Options, place: &Place<'_>) -> Result<Vec<Player>> {
    let [ours, peers @ ..] = &FRAMEWORKS;
    let usual = |framework| Way { framework, setting: None, threads: options.threads };
    let mut players = vec![begin(usual(ours), place)?];
    for way in others(usual(ours)) {
        players.push(begin(way, place)?);
    }
    for framework in peers.iter().filter(|framework| options.parts.iter().any(|&part| framework.takes(part))) {
        let named = options.only.as_ref().map(|only| only.iter().any(|name| name == framework.name));
        if named == Some(false) {
            continue;
        }
        match begin(usual(framework), place) {
            Ok(player) => players.push(player),
            Err(error) if named == Some(true) => return Err(error.into()),
            Err(error) => {
                println!("SKIPPED: {error}");
                continue;
            }
        }
        for way in others(usual(framework)) {
            match begin(way, place) {
                Ok(player) => players.push(player),
                Err(error) => println!("SKIPPED: {error}"),
            }
        }
    }
    for player in players.iter().filter(|player| player.way.threads == options.threads) {
        println!("{}: {}", player.way, player.child.as_ref().map_or("", |child| &child.about));
    }
    Ok(players)
}

/// In which other ways a contestant runs: with its setting, and on one thread, where small work may be at its
/// best.
fn others(usual: Way) -> Vec<Way> {
    let tuned = usual.framework.setting.map(|setting| Way { setting: Some(setting), ..usual });
    let singles = [usual].into_iter().chain(tuned).map(|way| Way { threads: 1, ..way });
    tuned.into_iter().chain(singles.filter(|_| usual.threads > 1)).collect()
}

fn begin(way: Way, place: &Place<'_>) -> Outcome<Player> {
    let child = Child::start(way, place).map_err(|error| format!("{way}: {error}"))?;
    Ok(Player { way, child: Some(child) })
}

/// What a contestant has done at a piece of work.
struct Turns<'a> {
    player: &'a mut Player,
    /// Of training: the first epoch, which is not counted, and the last.
    epochs: Option<[Epoch; 2]>,
    turns: Vec<Turn>,
}

impl Turns<'_> {
    /// Gives a turn's time, in nanoseconds. The machine has just been measured: its cores are awake.
    fn take(&mut self, work: &Work, turn: Duration) -> Outcome<f64> {
        let child = self.player.child.as_mut().ok_or("it was dropped")?;
        match &mut self.epochs {
            Some([_, last]) => {
                *last = child.train(work)?;
                Ok(last.time)
            }
            None => child.infer(work, turn),
        }
    }
}

/// What the others' answers are compared with.
enum Expected {
    Loss(f64),
    Answer(Vec<f32>),
}

/// Lets all take turns at some work. Who fails or gives another answer is dropped, with a word; densely may
/// not.
pub fn measure(options: &Options, work: &Work, players: &mut [Player], limits: &Limits) -> Result<Vec<Times>> {
    let mut expected = None;
    let mut all: Vec<Turns<'_>> = Vec::new();
    for player in players.iter_mut().filter(|player| player.child.is_some() && player.way.framework.takes(work.part)) {
        progress(&format!("{}: {} begins", work.name(), player.way));
        match check(work, player, &mut expected) {
            Ok(epochs) => all.push(Turns { player, epochs, turns: Vec::new() }),
            Err(error) => drop_out(work, player, &error)?,
        }
    }
    let standing = || {
        std::thread::sleep(SETTLE);
        Standing::measure(limits)
    };
    let mut before = standing();
    for round in 1..=options.rounds {
        for turns in &mut all {
            progress(&format!("{}: round {round}, {}", work.name(), turns.player.way));
            if turns.player.child.is_none() {
                continue;
            }
            match turns.take(work, options.turn) {
                Ok(time) => {
                    let after = standing();
                    turns.turns.push(Turn { time, standings: [before, after] });
                    before = after;
                }
                Err(error) => drop_out(work, turns.player, &error)?,
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
    Ok(finished.map(|Turns { player, turns, .. }| Times { way: player.way, turns }).collect())
}

/// Asks for a first answer, which has to be like densely's; of training, that is the first epoch.
fn check(work: &Work, player: &mut Player, expected: &mut Option<Expected>) -> Outcome<Option<[Epoch; 2]>> {
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
    let message = format!("{}, at {}: {error}", player.way, work.name());
    player.child = None;
    if player.way.framework.name == FRAMEWORKS[0].name {
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
