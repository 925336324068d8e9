//! Pictures as owned SVG.
