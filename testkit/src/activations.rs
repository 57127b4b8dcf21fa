//! Activations with parameters that tests can tell from any other number.

use densely::Activation;

/// Returns every activation in the order of [`Activation::ALL`], with these parameters where it has one.
pub fn with_parameters(slope: f32, alpha: f32) -> Vec<Activation> {
    let set = |activation| match activation {
        Activation::LeakyRelu { .. } => Activation::LeakyRelu { slope },
        Activation::Elu { .. } => Activation::Elu { alpha },
        other => other,
    };
    Activation::ALL.iter().copied().map(set).collect()
}

/// Returns every activation, with parameters that are no defaults.
pub fn activations() -> Vec<Activation> {
    with_parameters(0.15, 0.7)
}
