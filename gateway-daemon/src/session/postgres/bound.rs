//! The parameters of a request that is recorded: kept from the Bind, or the function call, until it runs.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::{
    constants::{Constants, quotes_finds},
    recorded::Recording,
    relay::Prepared,
};
use crate::{
    mask::Masker,
    recording::{Cell, Format, Parameter},
};

/// No more of one parameter is recorded.
const PARAMETER_BYTES: usize = 16 * 1024;
/// Parameters that portals of one session hold until they run.
const HELD_PARAMETER_BYTES: usize = 1024 * 1024;

/// What a Bind said.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) prepared: Option<Arc<Prepared>>,
    pub(super) parameters: Vec<Parameter>,
    pub(super) missing_bytes: Option<u64>,
    pub(super) result_formats: Vec<i16>,
    pub(super) held: Held,
}

/// The part of a session's room for parameters that a portal has.
#[derive(Debug)]
pub(super) struct Held {
    of: Arc<AtomicUsize>,
    pub(super) bytes: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.of.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The values of a Bind.
pub(super) enum Values<'a> {
    /// A message that was looked at as a whole.
    Whole {
        /// As in the message.
        formats: Vec<i16>,
        /// As in the message.
        parameters: Vec<Option<&'a [u8]>>,
        /// As in the message.
        result_formats: Vec<i16>,
    },
    /// One that is passed on as it comes.
    Large {
        /// Its size.
        bytes: usize,
    },
}

impl Recording {
    /// Keeps what a Bind says for the request that runs its portal.
    pub(super) fn bind(
        &self,
        prepared: Option<&Arc<Prepared>>,
        constants: Constants,
        values: Values<'_>,
        masker: &Masker,
    ) -> Arc<Bound> {
        let mut held = Held { of: Arc::clone(&self.held_parameters), bytes: 0 };
        let (formats, parameters, result_formats) = match values {
            Values::Whole { formats, parameters, result_formats } => (formats, parameters, result_formats),
            Values::Large { bytes } => {
                return Arc::new(Bound {
                    prepared: prepared.cloned(),
                    parameters: Vec::new(),
                    missing_bytes: u64::try_from(bytes).ok(),
                    result_formats: Vec::new(),
                    held,
                });
            }
        };
        let mut kept = Vec::new();
        let mut missing = 0;
        for (at, value) in parameters.iter().enumerate() {
            let length = value.map_or(0, <[u8]>::len);
            let left = HELD_PARAMETER_BYTES.saturating_sub(self.held_parameters.load(Ordering::Relaxed));
            if missing > 0 || length.min(PARAMETER_BYTES) + size_of::<Parameter>() > left {
                missing += length.max(1);
                continue;
            }
            let verdict = prepared.map(|prepared| &prepared.verdict);
            let is_withheld = constants == Constants::Withheld
                || verdict
                    .is_none_or(|verdict| value.is_some_and(|value| quotes_finds(value, verdict, masker)));
            let format = format_of(&formats, at).unwrap_or_default();
            let value = match value {
                Some(value) if is_withheld => Cell::withheld(value.len()),
                value => Cell::of(*value, format, PARAMETER_BYTES),
            };
            let bytes = value.size() + size_of::<Parameter>();
            self.held_parameters.fetch_add(bytes, Ordering::Relaxed);
            held.bytes += bytes;
            let types = prepared.map(|prepared| &prepared.parameter_types);
            let type_oid = types.and_then(|types| types.get(at)).copied().unwrap_or(0);
            kept.push(Parameter { type_oid, format, value });
        }
        Arc::new(Bound {
            prepared: prepared.cloned(),
            parameters: kept,
            missing_bytes: u64::try_from(missing).ok().filter(|missing| *missing > 0),
            result_formats,
            held,
        })
    }

    /// Keeps how many arguments a function call has, and how large they are: nothing says what they mean.
    pub(super) fn call(&self, values: Values<'_>, masker: &Masker) -> Arc<Bound> {
        self.bind(None, Constants::Withheld, values, masker)
    }
}

/// Leaves a parameter's value out.
pub(super) fn withhold(parameter: &mut Parameter) {
    parameter.value = match &parameter.value {
        Cell::Text(text) => Cell::withheld(text.len()),
        Cell::Hex { hex } => Cell::withheld(hex.len() / 2),
        Cell::Cut { bytes, .. } => Cell::Withheld { withheld_bytes: *bytes },
        Cell::Null | Cell::Withheld { .. } => return,
    };
}

/// The format of a value, by a list that has none, one for all, or one for each.
pub(super) fn format_of(formats: &[i16], at: usize) -> Option<Format> {
    match formats {
        [] => None,
        [all] => Some(format_from(*all)),
        each => each.get(at).map(|format| format_from(*format)),
    }
}

pub(super) const fn format_from(code: i16) -> Format {
    if code == 1 { Format::Binary } else { Format::Text }
}
