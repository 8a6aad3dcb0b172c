use std::sync::{Mutex, PoisonError};

/// A value that tests which run side by side learn from each other.
#[derive(Debug, Default)]
pub(crate) struct Memory<T>(Mutex<T>);

impl<T: Copy> Memory<T> {
    pub(crate) fn new(value: T) -> Memory<T> {
        Memory(Mutex::new(value))
    }

    pub(crate) fn get(&self) -> T {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set(&self, value: T) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = value;
    }
}
