//! Shows the progress of training: a bar per epoch on a terminal, a line per epoch elsewhere.

use std::io::{self, IsTerminal, Write};
use std::ops::ControlFlow;
use std::time::Instant;

use densely::nn::{BatchEnd, Callback, EpochEnd};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The message has a second line; each of the two fits 80 columns.
const TEMPLATE: &str = "{prefix} {bar:28.cyan/dim} {pos}/{len} {msg}";
/// Characters for the completed part, its end, and the rest.
const BAR: &str = "━╸─";

/// The form of the output.
#[derive(Clone, Copy, PartialEq)]
enum Show {
    Bars,
    Lines,
    Nothing,
}

/// Reports the progress of training.
pub struct Progress {
    show: Show,
    epochs: usize,
    images: usize,
    bar: ProgressBar,
    epoch_began: Instant,
    images_per_second: f64,
}

impl Progress {
    /// Starts the clock of the first epoch.
    pub fn new(epochs: usize, images: usize, quiet: bool) -> Self {
        let show = match (quiet, io::stdout().is_terminal()) {
            (true, _) => Show::Nothing,
            (false, true) => Show::Bars,
            (false, false) => Show::Lines,
        };
        let bar = ProgressBar::hidden();
        Self { show, epochs, images, bar, epoch_began: Instant::now(), images_per_second: 0.0 }
    }

    /// Leaves the bar of an incomplete epoch as it is.
    pub fn abandon(&self) {
        if self.show == Show::Bars && !self.bar.is_finished() {
            self.bar.abandon();
            write_line("");
        }
    }

    /// Formats `Epoch  3/10`.
    fn name(&self, epoch: usize) -> String {
        let width = self.epochs.to_string().len();
        format!("Epoch {:>width$}/{}", epoch + 1, self.epochs)
    }

    fn new_bar(&self, epoch: usize) -> ProgressBar {
        let style = ProgressStyle::with_template(TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_bar());
        ProgressBar::with_draw_target(Some(self.images as u64), ProgressDrawTarget::stdout())
            .with_style(style.progress_chars(BAR))
            .with_prefix(self.name(epoch))
    }
}

impl Callback for Progress {
    fn on_batch_end(&mut self, end: &BatchEnd) -> ControlFlow<()> {
        self.images_per_second = end.samples as f64 / self.epoch_began.elapsed().as_secs_f64();
        if self.show == Show::Bars {
            if end.batch == 0 {
                self.bar = self.new_bar(end.epoch);
            }
            let metrics = metrics("", end.loss, end.accuracy);
            self.bar.set_message(format!("{:.0} images/s\n  {metrics}", self.images_per_second));
            self.bar.set_position(end.samples as u64);
        }
        ControlFlow::Continue(())
    }

    fn on_epoch_end(&mut self, end: &EpochEnd) -> ControlFlow<()> {
        let rate = format!("{:.0} images/s", self.images_per_second);
        let training = metrics("", end.loss, end.accuracy);
        let validation = end.validation.map(|validation| metrics("val_", validation.loss, validation.accuracy));
        let metrics = [training].into_iter().chain(validation).collect::<Vec<_>>().join("  ");
        match self.show {
            Show::Bars => {
                self.bar.finish_with_message(format!("{rate}\n  {metrics}"));
                write_line("");
            }
            Show::Lines => write_line(&format!("{}  {rate}  {metrics}", self.name(end.epoch))),
            Show::Nothing => {}
        }
        self.epoch_began = Instant::now();
        ControlFlow::Continue(())
    }
}

/// Formats metrics with Keras' names.
fn metrics(prefix: &str, loss: f32, accuracy: f32) -> String {
    format!("{prefix}loss: {loss:.4}  {prefix}accuracy: {accuracy:.4}")
}

fn write_line(line: &str) {
    // Training goes on even if a line can't be written.
    let _ = writeln!(io::stdout(), "{line}");
}
