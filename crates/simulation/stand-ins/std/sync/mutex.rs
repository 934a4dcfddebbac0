use std::{
    ops::{Deref, DerefMut},
    sync::{LockResult, PoisonError},
};

#[derive(Debug, Default)]
pub struct Mutex<T>(shuttle::sync::Mutex<T>);

/// Knows its mutex, as [`Condvar`](super::Condvar) needs it to.
pub struct MutexGuard<'a, T> {
    guard: shuttle::sync::MutexGuard<'a, T>,
    mutex: &'a Mutex<T>,
}

impl<T> Mutex<T> {
    pub fn new(value: T) -> Self {
        Self(shuttle::sync::Mutex::new(value))
    }

    pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        let with_mutex = |guard| MutexGuard { guard, mutex: self };
        match self.0.lock() {
            Ok(guard) => Ok(with_mutex(guard)),
            Err(poisoned) => Err(PoisonError::new(with_mutex(poisoned.into_inner()))),
        }
    }
}

impl<'a, T> MutexGuard<'a, T> {
    pub(super) fn unlock(self) -> &'a Mutex<T> {
        self.mutex
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}
