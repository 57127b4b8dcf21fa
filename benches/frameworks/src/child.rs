//! A contestant's process, and what is asked of it; `lib.rs` tells the requests.

use std::fmt;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{self, ChildStdout, Command, Stdio};
use std::time::Duration;

use crate::work::Work;

/// Who takes part, if it is there.
pub struct Framework {
    pub name: &'static str,
    /// A script, for Python; else a program beside this one is `NAME_turns`, or `NAME_SETTING_turns`.
    pub script: Option<&'static str>,
    /// What else than its usual ways it may be at its best with.
    pub setting: Option<&'static str>,
    pub trains: bool,
    pub infers: bool,
}

macro_rules! script {
    ($name:literal) => {
        Some(concat!(env!("CARGO_MANIFEST_DIR"), "/", $name))
    };
}

/// densely is the first. `gemm`, under burn and candle, gets its AVX-512 kernels when it is built, and is not
/// always faster with them.
pub const FRAMEWORKS: [Framework; 7] = [
    Framework { name: "densely", script: None, setting: None, trains: true, infers: true },
    Framework { name: "jax", script: script!("jax_turns.py"), setting: None, trains: true, infers: true },
    Framework {
        name: "onnxruntime",
        script: script!("onnxruntime_turns.py"),
        setting: None,
        trains: false,
        infers: true,
    },
    Framework {
        name: "torch",
        script: script!("torch_turns.py"),
        setting: Some("compile"),
        trains: true,
        infers: true,
    },
    Framework { name: "keras", script: script!("keras_turns.py"), setting: Some("xla"), trains: true, infers: false },
    Framework { name: "burn", script: None, setting: Some("v4"), trains: true, infers: true },
    Framework { name: "candle", script: None, setting: Some("v4"), trains: true, infers: true },
];

/// How a contestant is started.
#[derive(Clone, Copy)]
pub struct Way {
    pub framework: &'static Framework,
    pub setting: Option<&'static str>,
    pub threads: usize,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.framework.name)?;
        self.setting.map_or(Ok(()), |setting| write!(f, "-{setting}"))?;
        write!(f, " on {} thread(s)", self.threads)
    }
}

/// Where all contestants start.
pub struct Place<'a> {
    /// Holds the networks, and what is exchanged.
    pub folder: &'a Path,
    pub python: &'a str,
}

pub struct Child {
    process: process::Child,
    answers: BufReader<ChildStdout>,
    /// Its versions.
    pub about: String,
    /// What it wrote to standard error.
    errors: PathBuf,
    /// For what it answers.
    file: PathBuf,
}

/// An epoch's nanoseconds and mean loss.
#[derive(Clone, Copy)]
pub struct Epoch {
    pub time: f64,
    pub loss: f64,
}

impl Child {
    pub fn start(way: Way, place: &Place<'_>) -> Result<Self, String> {
        let Way { framework, setting, threads } = way;
        let mut command = match framework.script {
            Some(script) => {
                let mut command = Command::new(place.python);
                command.args(["-B", script]); // no bytecode beside the sources
                command
            }
            None => {
                let name = setting.map_or("turns".into(), |setting| format!("{setting}_turns"));
                let this = std::env::current_exe().map_err(|error| error.to_string())?;
                Command::new(this.with_file_name(format!("{}_{name}", framework.name)))
            }
        };
        let errors = place.folder.join(format!("{}.stderr", way.to_string().replace(' ', "-")));
        let log = File::create(&errors).map_err(|error| format!("{}: {error}", errors.display()))?;
        let threads = threads.to_string();
        let mut process = command
            .arg(place.folder)
            .arg(&threads)
            .args(setting)
            .env("RAYON_NUM_THREADS", &threads)
            .env("OMP_NUM_THREADS", &threads)
            // Threads that spin for the next call would take a core from the next contestant.
            .env("KMP_BLOCKTIME", "10")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(|error| format!("{}: {error}", command.get_program().display()))?;
        let answers = BufReader::new(process.stdout.take().expect("it is piped"));
        let file = errors.with_extension("answer");
        let mut child = Self { process, answers, about: String::new(), errors, file };
        child.about = child.answer()?;
        Ok(child)
    }

    fn answer(&mut self) -> Result<String, String> {
        let mut line = String::new();
        match self.answers.read_line(&mut line) {
            Ok(1..) => Ok(line.trim().to_owned()),
            Ok(0) => {
                let status = self.process.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
                Err(self.complain(format!("its process has ended: {status}")))
            }
            Err(error) => Err(self.complain(error.to_string())),
        }
    }

    /// With the end of what the process wrote to standard error.
    fn complain(&self, what: String) -> String {
        let log = fs::read(&self.errors).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
        let last = &lines[lines.len().saturating_sub(12)..];
        last.iter().fold(what, |all, line| format!("{all}\n    {line}"))
    }

    fn ask(&mut self, request: &str) -> Result<String, String> {
        let stdin = self.process.stdin.as_mut().expect("it is piped");
        match writeln!(stdin, "{request}").and_then(|()| stdin.flush()) {
            Ok(()) => self.answer(),
            // It has ended, and what there is to read tells why.
            Err(error) => Err(self.answer().map_or_else(|why| why, |_| error.to_string())),
        }
    }

    fn numbers<const N: usize>(&mut self, request: &str) -> Result<[f64; N], String> {
        let line = self.ask(request)?;
        let numbers: Option<Vec<f64>> = line.split(' ').map(|word| word.parse().ok()).collect();
        let numbers = numbers.and_then(|numbers| <[f64; N]>::try_from(numbers).ok());
        let sound = numbers.filter(|numbers| numbers.iter().all(|number| number.is_finite()));
        sound.ok_or_else(|| self.complain(format!("to `{request}` it answers `{line}`")))
    }

    /// An epoch, the first of its network and batch from the weights that all have.
    pub fn train(&mut self, work: &Work) -> Result<Epoch, String> {
        let [time, loss, _] = self.numbers(&format!("train {} {}", work.net, work.batch))?;
        Ok(Epoch { time, loss })
    }

    /// Nanoseconds for a call.
    pub fn infer(&mut self, work: &Work, turn: Duration) -> Result<f64, String> {
        let [time] = self.numbers(&format!("infer {} {} {}", work.net, work.batch, turn.as_secs_f64()))?;
        Ok(time)
    }

    /// Logarithms of probabilities.
    pub fn log_probabilities(&mut self, work: &Work) -> Result<Vec<f32>, String> {
        let request = format!("answer {} {} {}", work.net, work.batch, self.file.display());
        match self.ask(&request)?.as_str() {
            "written" => densely_frameworks::read(&self.file, f32::from_le_bytes).map_err(|error| error.to_string()),
            other => Err(self.complain(format!("to `{request}` it answers `{other}`"))),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended before; there is nobody left to tell.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
