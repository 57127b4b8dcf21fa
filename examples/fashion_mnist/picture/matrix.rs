//! Draws the confusion matrix: how often images of each class were predicted as each class.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::{Area, BLUE, Drawn, FAINT, INK, MARGIN, MEDIUM, RED, SMALL, centred, font, tint, write};
use crate::data::CLASS_NAMES;
use crate::idx::CLASSES;
use crate::report::Prediction;

/// The corner of the matrix, and the side of a cell.
const LEFT: i32 = 140;
const TOP: i32 = 68;
const CELL: i32 = 48;
/// The gap between cells.
const GAP: i32 = 2;
/// The distance between the matrix and the names of the classes.
const DISTANCE: i32 = 8;
/// Cells with more color than this have white text.
const DARK: f64 = 0.55;

pub fn draw(area: &Area<'_>, predictions: &[Prediction]) -> Drawn {
    let mut counts = [[0u32; CLASSES]; CLASSES];
    for prediction in predictions {
        counts[prediction.truth][prediction.class] += 1;
    }
    let bottom = TOP + CELL * CLASSES as i32;
    write(area, "Confusion matrix", (MARGIN, 20), font(MEDIUM, &INK))?;
    write(area, "rows: true class, columns: predicted class", (MARGIN, 46), font(SMALL, &FAINT))?;
    for (class, name) in CLASS_NAMES.iter().enumerate() {
        let along = CELL * class as i32 + CELL / 2;
        let right = font(SMALL, &INK).pos(Pos::new(HPos::Right, VPos::Center));
        write(area, name, (LEFT - DISTANCE, TOP + along), right.clone())?;
        write(area, name, (LEFT + along, bottom + DISTANCE), right.transform(FontTransform::Rotate270))?;
    }
    for (truth, row) in counts.iter().enumerate() {
        let images = row.iter().sum::<u32>().max(1);
        for (class, &count) in row.iter().enumerate() {
            let (x, y) = (LEFT + CELL * class as i32, TOP + CELL * truth as i32);
            // The square root makes rare mistakes visible beside frequent correct predictions.
            let strength = (f64::from(count) / f64::from(images)).sqrt();
            let color = tint(if class == truth { BLUE } else { RED }, strength.max(0.04));
            area.draw(&Rectangle::new([(x, y), (x + CELL - GAP, y + CELL - GAP)], color.filled()))?;
            if count > 0 {
                let ink = if strength > DARK { WHITE } else { INK };
                write(area, &count.to_string(), (x + CELL / 2, y + CELL / 2), centred(SMALL, &ink))?;
            }
        }
    }
    Ok(())
}
