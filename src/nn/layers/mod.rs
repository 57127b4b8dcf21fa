//! Layers: a file for each kind, with the user's type and its node in the plan. This file lists the kinds.

pub(crate) mod dense;
pub(crate) mod dropout;
pub(crate) mod flatten;
pub(crate) mod interface;

use std::ops::Deref;

use crate::error::Result;
use crate::nn::layers::dense::{Dense, DenseNode};
use crate::nn::layers::dropout::{Dropout, DropoutNode};
use crate::nn::layers::flatten::Flatten;
use crate::nn::layers::interface::{LayerConfig, NodeKind, Position};

/// Any layer.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Layer {
    /// See [`Flatten`].
    Flatten(Flatten),
    /// See [`Dense`].
    Dense(Dense),
    /// See [`Dropout`].
    Dropout(Dropout),
}

impl Layer {
    /// Checks the layer at its position, and makes its node if it computes anything.
    pub(crate) fn plan(&self, at: &Position<'_>) -> Result<Option<Node>> {
        Ok(match self {
            Self::Flatten(_) => None,
            Self::Dense(layer) => Some(Node::Dense(layer.plan(at)?)),
            Self::Dropout(layer) => Some(Node::Dropout(layer.plan(at)?)),
        })
    }

    /// The layer's description, whatever its kind.
    pub(crate) fn as_config(&self) -> &dyn LayerConfig {
        match self {
            Self::Flatten(layer) => layer,
            Self::Dense(layer) => layer,
            Self::Dropout(layer) => layer,
        }
    }
}

/// A node of the plan: a layer that computes something.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    Dense(DenseNode),
    Dropout(DropoutNode),
}

/// The one place where kinds of nodes are told apart.
impl Deref for Node {
    type Target = dyn NodeKind;

    fn deref(&self) -> &(dyn NodeKind + 'static) {
        match self {
            Self::Dense(node) => node,
            Self::Dropout(node) => node,
        }
    }
}

impl From<Flatten> for Layer {
    fn from(layer: Flatten) -> Self {
        Self::Flatten(layer)
    }
}
impl From<Dense> for Layer {
    fn from(layer: Dense) -> Self {
        Self::Dense(layer)
    }
}
impl From<Dropout> for Layer {
    fn from(layer: Dropout) -> Self {
        Self::Dropout(layer)
    }
}
