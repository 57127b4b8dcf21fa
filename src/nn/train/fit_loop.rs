//! `FitLoop`: the epochs of a `fit`, one after another.

use std::mem;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};
use crate::nn::metrics::{MetricSums, Metrics};
use crate::nn::sequential::Sequential;
use crate::nn::train::batches::{Batches, Gathering, Shuffle};
#[cfg(feature = "safetensors")]
use crate::nn::train::checkpoint::Checkpoints;
use crate::nn::train::early_stopping::{EarlyStopper, Progress};
use crate::nn::train::history::{BatchEnd, Callback, Ended, EpochEnd, History};
use crate::nn::train::scratch::{CachedScratch, Scratch, Sharding};
use crate::nn::train::step::{ModelParts, Trainer};
use crate::nn::train::training::Training;

/// A training, what may end it, and where its checkpoints are.
pub(crate) struct FitLoop<'a> {
    pub(crate) training: Training<'a>,
    pub(crate) callback: Option<&'a mut dyn Callback>,
    pub(crate) stop: Option<&'a AtomicBool>,
    #[cfg(feature = "safetensors")]
    pub(crate) checkpoints: Checkpoints,
}

/// What the epochs of a loop change.
struct LoopState<'a> {
    model: &'a mut Sequential,
    history: History,
    stopper: Option<EarlyStopper>,
    batches: Batches<'a>,
    scratch: Scratch,
}

impl FitLoop<'_> {
    /// Trains until the last epoch, or until something ends it.
    #[cfg_attr(not(feature = "safetensors"), allow(unused_mut, reason = "only a checkpoint changes them here"))]
    pub(crate) fn run(mut self, model: &mut Sequential) -> Result<History> {
        let Training { samples, batch_size, early_stopping, .. } = self.training;
        let mut history = History::default();
        let mut stopper = early_stopping.map(|options| EarlyStopper::new(options, model.count_params()));
        #[cfg(feature = "safetensors")]
        if self.checkpoints.resume(&self.training.config(), model, &mut history, stopper.as_mut())? {
            history.ended = Ended::EarlyStopping;
            self.training.epochs = history.epochs.len();
        }
        let needs_all = model.state.as_ref().is_none_or(|state| state.optimizer.needs_all_gradients());
        let sharding = if needs_all { Sharding::Never } else { Sharding::IfItPays };
        let CachedScratch { scratch, batches } = mem::take(&mut model.cached);
        let batch = batch_size.min(samples.x.rows());
        let scratch = Scratch::reuse(scratch, &model.backend, &model.plan, batch, sharding);
        let gathering = if scratch.is_sharded() { Gathering::Prefetch } else { Gathering::InStep };
        let batches = Batches::new(samples, batch_size, gathering, batches);

        let mut state = LoopState { model, history, stopper, batches, scratch };
        let outcome = self.epochs(&mut state);
        let LoopState { model, mut history, stopper, batches, scratch } = state;
        model.cached = CachedScratch { scratch: Some(scratch), batches: batches.into_buffers() };
        if let Some(stopper) = stopper {
            history.best_epoch = stopper.best_epoch();
            if let Some(best) = stopper.best_parameters() {
                model.parameters.copy_from_slice(best);
            }
        }
        outcome.map(|()| history)
    }

    /// Does the epochs that are left, until one is the last.
    fn epochs(&mut self, state: &mut LoopState<'_>) -> Result<()> {
        let epochs = self.training.epochs;
        for epoch in state.history.epochs.len()..epochs {
            let end = match self.epoch(epoch, state)? {
                ControlFlow::Continue(end) => end,
                ControlFlow::Break(ended) => {
                    state.history.ended = ended;
                    break;
                }
            };
            let LoopState { model, history, stopper, .. } = &mut *state;
            history.epochs.push(end);
            let progress = stopper.as_mut().map(|stopper| stopper.observe(&end));
            if let (Some(stopper), Some(Progress::Improved)) = (&mut *stopper, progress) {
                stopper.save_best(&model.parameters);
            }
            let is_ended_by_callback =
                self.callback.as_mut().is_some_and(|callback| callback.on_epoch_end(&end).is_break());
            let ended = [
                (progress == Some(Progress::Stop), Ended::EarlyStopping),
                (is_ended_by_callback, Ended::Callback),
                (self.is_stopped(), Ended::Stopped),
            ];
            let ended = ended.into_iter().find_map(|(has_ended, why)| has_ended.then_some(why));
            #[cfg(feature = "safetensors")]
            self.checkpoints.write_if_due(&self.training.config(), model, history, stopper.as_ref(), ended)?;
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

    /// Trains on all batches once, and validates. Gives the epoch's metrics, or why it was ended before.
    fn epoch(&mut self, epoch: usize, state: &mut LoopState<'_>) -> Result<ControlFlow<Ended, EpochEnd>> {
        let LoopState { model, batches, .. } = &mut *state;
        if let (Some(callback), Some(rate)) = (&mut self.callback, model.learning_rate()) {
            model.set_learning_rate(callback.learning_rate(epoch, rate))?;
        }
        if let Shuffle::Seed(seed) = self.training.shuffle {
            batches.shuffle(seed, epoch as u32);
        }
        let BatchEnd { loss, accuracy, learning_rate, .. } = match self.steps(epoch, state)? {
            ControlFlow::Continue(last) => last,
            ControlFlow::Break(ended) => return Ok(ControlFlow::Break(ended)),
        };
        let validation = self.training.validation.map(|(x, labels)| state.model.evaluate(x, labels)).transpose()?;
        Ok(ControlFlow::Continue(EpochEnd { epoch, loss, accuracy, learning_rate, validation }))
    }

    /// Trains on all batches once. Gives the metrics after the last, or why training was ended before.
    fn steps(&mut self, epoch: usize, state: &mut LoopState<'_>) -> Result<ControlFlow<Ended, BatchEnd>> {
        let LoopState { model, batches, scratch, .. } = state;
        let Sequential { backend, plan, loss, parameters, state, seed, .. } = &mut **model;
        let state = state.as_mut().ok_or(Error::NotCompiled)?;
        let parts = ModelParts { backend, plan, loss: *loss, parameters, state, seed: *seed };
        let mut trainer = Trainer::new(parts, scratch);
        if let Some(gather) = batches.prefetch_first() {
            gather.run(backend)?;
        }
        trainer.forward_first_layer(batches.get(0)?.x)?;
        let mut sums = MetricSums::default();
        let count = batches.count();
        let mut end =
            BatchEnd { epoch, batch: 0, batches: count, samples: 0, loss: 0.0, accuracy: 0.0, learning_rate: 0.0 };
        for batch in 0..count {
            let (this, next) = batches.take(batch)?;
            let before = trainer.forward_backward(this, next)?;
            let x = batches.get(batch)?.x;
            end.learning_rate = trainer.learning_rate();
            trainer.update(x, batches.next(batch)?)?;
            end.batch = batch;
            sums.samples += x.rows();
            sums.loss += f64::from(before.loss) * x.rows() as f64;
            sums.correct += before.correct;
            end.samples = sums.samples;
            Metrics { loss: end.loss, accuracy: end.accuracy } = sums.means();
            if self.callback.as_mut().is_some_and(|callback| callback.on_batch_end(&end).is_break()) {
                return Ok(ControlFlow::Break(Ended::Callback));
            }
            // After the last batch, the epoch is completed first.
            if batch + 1 < count && self.is_stopped() {
                return Ok(ControlFlow::Break(Ended::Stopped));
            }
        }
        Ok(ControlFlow::Continue(end))
    }
}
