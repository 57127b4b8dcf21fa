//! `Sequential::summary`: the table that Keras prints for a model.

use crate::nn::layers::Layer;
use crate::nn::model::Sequential;

/// Widths of Keras' columns in 80 characters; longer entries widen their column.
const WIDTHS: [usize; 3] = [31, 22, 13];

impl Sequential {
    /// Formats the layers with their output shapes and numbers of parameters, as Keras prints them.
    ///
    /// ```
    /// use densely::nn::{Activation, Dense, Flatten, Sequential};
    /// let model = Sequential::builder((28, 28))
    ///     .layer(Flatten)
    ///     .layer(Dense::new(128, Activation::Relu))
    ///     .layer(Dense::new(10, Activation::Softmax))
    ///     .build()?;
    /// assert!(model.summary().contains("Total params: 101,770 (397.54 KB)"));
    /// # Ok::<(), densely::Error>(())
    /// ```
    #[must_use]
    pub fn summary(&self) -> String {
        let mut dense = self.plan.iter();
        let rows = self.layers.iter().map(|(name, layer, shape)| {
            let (kind, params) = match layer {
                Layer::Flatten(_) => ("Flatten", 0),
                Layer::Dropout(_) => ("Dropout", 0),
                Layer::Dense(_) => {
                    let plan = dense.next();
                    let params = plan.map(|plan| plan.kernel.len() + plan.bias.as_ref().map_or(0, |bias| bias.len()));
                    ("Dense", params.unwrap_or_default())
                }
            };
            [format!("{name} ({kind})"), shape.to_string(), thousands(params)]
        });
        let header = ["Layer (type)", "Output Shape", "Param #"].map(str::to_owned);
        let rows: Vec<[String; 3]> = rows.collect();
        let widths: [usize; 3] =
            std::array::from_fn(|i| rows.iter().fold(WIDTHS[i], |width, row| width.max(row[i].len())));

        let line = |[left, middle, right]: [char; 3], dash: &str| {
            let [a, b, c] = widths.map(|width| dash.repeat(width + 2));
            format!("{left}{a}{middle}{b}{middle}{c}{right}\n")
        };
        let row = |bar: char, [a, b, c]: &[String; 3]| {
            let [wa, wb, wc] = widths;
            format!("{bar} {a:<wa$} {bar} {b:<wb$} {bar} {c:>wc$} {bar}\n")
        };
        let mut table = String::from("Model: \"sequential\"\n");
        table += &line(['┏', '┳', '┓'], "━");
        table += &row('┃', &header);
        table += &line(['┡', '╇', '┩'], "━");
        table += &rows.iter().map(|cells| row('│', cells)).collect::<Vec<_>>().join(&line(['├', '┼', '┤'], "─"));
        table += &line(['└', '┴', '┘'], "─");
        let total = format!("{} ({})", thousands(self.count_params()), size(self.count_params() * size_of::<f32>()));
        table + &format!(" Total params: {total}\n Trainable params: {total}\n Non-trainable params: 0 (0.00 B)\n")
    }
}

/// Formats 101770 as 101,770.
fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().filter_map(|group| str::from_utf8(group).ok()).collect();
    groups.join(",")
}

/// Formats bytes in the largest unit of which there is at least one.
fn size(bytes: usize) -> String {
    let mut size = bytes as f64;
    let mut units = ["B", "KB", "MB", "GB", "TB"].into_iter();
    while size >= 1024.0 && units.len() > 1 {
        size /= 1024.0;
        units.next();
    }
    format!("{size:.2} {}", units.next().unwrap_or_default())
}
