//! The epochs of a `fit`, one after another.

use std::mem;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};
use crate::matrix::MatRef;
use crate::nn::model::Sequential;
use crate::nn::train::batches::{Batch, Batches};
#[cfg(feature = "safetensors")]
use crate::nn::train::checkpoint::{self, Checkpoints};
use crate::nn::train::early_stopping::{EarlyStopper, EarlyStopping, Progress};
#[cfg(feature = "safetensors")]
use crate::nn::train::fingerprint::FitConfig;
use crate::nn::train::history::{BatchEnd, Callback, Ended, EpochEnd, History};
use crate::nn::train::step::{Engine, Kept};
use crate::nn::train::workspace::Workspace;
use crate::targets::Labels;

/// A training whose samples and options have been checked.
pub(crate) struct Run<'a> {
    pub(crate) samples: Batch<'a>,
    pub(crate) validation: Option<(MatRef<'a>, Labels<'a>)>,
    pub(crate) epochs: usize,
    pub(crate) batch_size: usize,
    pub(crate) shuffle: Shuffle,
    pub(crate) callback: Option<&'a mut dyn Callback>,
    pub(crate) stop: Option<&'a AtomicBool>,
    pub(crate) early_stopping: Option<EarlyStopping>,
    #[cfg(feature = "safetensors")]
    pub(crate) checkpoints: Checkpoints,
}

/// The order of the samples.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shuffle {
    Seed(u64),
    No,
}

impl Default for Shuffle {
    fn default() -> Self {
        Self::Seed(0)
    }
}

impl Run<'_> {
    pub(crate) fn run(mut self, model: &mut Sequential) -> Result<History> {
        let mut history = History::default();
        let mut stopper = self.early_stopping.map(|options| EarlyStopper::new(options, model.count_params()));
        #[cfg(feature = "safetensors")]
        if let Some(path) = &self.checkpoints.resume {
            let resumed = checkpoint::read(path, &self.config(), model, stopper.as_mut())?;
            history.epochs = resumed.epochs;
            if resumed.has_stopped {
                history.ended = Ended::EarlyStopping;
                self.epochs = history.epochs.len();
            }
        }
        let kept = mem::take(&mut model.kept);
        let owners = model.state.as_ref().is_some_and(|state| !state.optimizer.needs_all_gradients());
        let batch = self.batch_size.min(self.samples.x.rows());
        let mut workspace = Workspace::like(kept.workspace, &model.backend, &model.plan, batch, owners);
        let mut batches = Batches::new(self.samples, self.batch_size, workspace.has_owners(), kept.room);
        let outcome = self.epochs(model, &mut history, stopper.as_mut(), &mut batches, &mut workspace);
        model.kept = Kept { workspace: Some(workspace), room: batches.into_room() };
        if let Some(stopper) = stopper {
            history.best_epoch = stopper.best_epoch();
            if let Some(best) = stopper.best_parameters() {
                model.parameters.copy_from_slice(best);
            }
        }
        outcome.map(|()| history)
    }

    /// Gathers what the fingerprint of a checkpoint depends on.
    #[cfg(feature = "safetensors")]
    fn config(&self) -> FitConfig {
        FitConfig {
            epochs: self.epochs,
            samples: self.samples.x.rows(),
            has_sample_weights: !self.samples.weights.is_empty(),
            validation_samples: self.validation.map(|(x, _)| x.rows()),
            batch_size: self.batch_size,
            shuffle: match self.shuffle {
                Shuffle::Seed(seed) => Some(seed),
                Shuffle::No => None,
            },
            early_stopping: self.early_stopping,
        }
    }

    /// The epochs that are left, until one is the last.
    fn epochs(
        &mut self,
        model: &mut Sequential,
        history: &mut History,
        mut stopper: Option<&mut EarlyStopper>,
        batches: &mut Batches<'_>,
        workspace: &mut Workspace,
    ) -> Result<()> {
        for epoch in history.epochs.len()..self.epochs {
            let end = match self.epoch(epoch, model, batches, workspace)? {
                ControlFlow::Continue(end) => end,
                ControlFlow::Break(ended) => {
                    history.ended = ended;
                    break;
                }
            };
            history.epochs.push(end);
            let progress = stopper.as_mut().map(|stopper| stopper.observe(&end));
            if let (Some(stopper), Some(Progress::Improved)) = (&mut stopper, progress) {
                stopper.save_best(&model.parameters);
            }
            let told = self.callback.as_mut().is_some_and(|callback| callback.on_epoch_end(&end).is_break());
            let ended = [
                (progress == Some(Progress::Stop), Ended::EarlyStopping),
                (told, Ended::Callback),
                (self.is_stopped(), Ended::Stopped),
            ];
            let ended = ended.into_iter().find_map(|(has_ended, why)| has_ended.then_some(why));
            #[cfg(feature = "safetensors")]
            if let Some((path, every)) = &self.checkpoints.write
                && ((epoch + 1).is_multiple_of(*every) || epoch + 1 == self.epochs || ended.is_some())
            {
                let best = stopper.as_ref().and_then(|stopper| stopper.best_parameters());
                checkpoint::write(path, &self.config(), model, &history.epochs, best)?;
            }
            if let Some(ended) = ended {
                history.ended = ended;
                break;
            }
        }
        Ok(())
    }

    fn is_stopped(&self) -> bool {
        self.stop.is_some_and(|flag| flag.load(Ordering::Relaxed))
    }

    /// Goes through all batches once, and validates. Gives what that came to, or why it was ended before.
    fn epoch(
        &mut self,
        epoch: usize,
        model: &mut Sequential,
        batches: &mut Batches<'_>,
        workspace: &mut Workspace,
    ) -> Result<ControlFlow<Ended, EpochEnd>> {
        if let (Some(callback), Some(rate)) = (&mut self.callback, model.learning_rate()) {
            model.set_learning_rate(callback.learning_rate(epoch, rate))?;
        }
        if let Shuffle::Seed(seed) = self.shuffle {
            batches.shuffle(seed, epoch as u32);
        }
        let BatchEnd { loss, accuracy, learning_rate, .. } = match self.steps(epoch, model, batches, workspace)? {
            ControlFlow::Continue(last) => last,
            ControlFlow::Break(ended) => return Ok(ControlFlow::Break(ended)),
        };
        let validation = self.validation.map(|(x, labels)| model.evaluate(x, labels)).transpose()?;
        Ok(ControlFlow::Continue(EpochEnd { epoch, loss, accuracy, learning_rate, validation }))
    }

    /// Goes through all batches once. Gives where that stands behind the last, or why it was ended before.
    fn steps(
        &mut self,
        epoch: usize,
        model: &mut Sequential,
        batches: &mut Batches<'_>,
        workspace: &mut Workspace,
    ) -> Result<ControlFlow<Ended, BatchEnd>> {
        let Sequential { backend, plan, parameters, state, seed, .. } = model;
        let state = state.as_mut().ok_or(Error::NotCompiled)?;
        let mut engine = Engine::begin(backend, plan, parameters, state, workspace, *seed);
        if let Some(gather) = batches.gather_first() {
            gather.run(backend)?;
        }
        engine.first_layer(batches.get(0)?.x)?;
        let (mut total, mut hits) = (0.0, 0);
        let count = batches.count();
        let mut end =
            BatchEnd { epoch, batch: 0, batches: count, samples: 0, loss: 0.0, accuracy: 0.0, learning_rate: 0.0 };
        for batch in 0..count {
            let (this, next) = batches.take(batch)?;
            let (loss, correct) = engine.through(this, next)?;
            let x = batches.get(batch)?.x;
            end.learning_rate = engine.learning_rate();
            engine.update(x, batches.next(batch)?)?;
            end.batch = batch;
            end.samples += x.rows();
            total += f64::from(loss) * x.rows() as f64;
            hits += correct;
            end.loss = (total / end.samples as f64) as f32;
            end.accuracy = (hits as f64 / end.samples as f64) as f32;
            if self.callback.as_mut().is_some_and(|callback| callback.on_batch_end(&end).is_break()) {
                return Ok(ControlFlow::Break(Ended::Callback));
            }
            // Behind the last batch, the epoch is completed first.
            if batch + 1 < count && self.is_stopped() {
                return Ok(ControlFlow::Break(Ended::Stopped));
            }
        }
        Ok(ControlFlow::Continue(end))
    }
}
