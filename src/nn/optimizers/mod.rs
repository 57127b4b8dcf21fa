//! Optimizers: one update rule a file, and what all of them share.
//!
//! [`update_rule`] says what a rule provides, [`sgd`] and [`adam`] are the rules, and [`optimizer`] has the
//! list of them and the options that any rule can have, of which [`clip`] and [`schedule`] are files of their
//! own. [`state`] is an optimizer between steps.

pub(crate) mod adam;
pub(crate) mod clip;
pub(crate) mod optimizer;
pub(crate) mod schedule;
pub(crate) mod sgd;
pub(crate) mod state;
pub(crate) mod update_rule;
