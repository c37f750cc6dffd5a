//! What the store's last answers say of its disk.

use crate::store::StoreError;

/// A disk may take no changes and still be readable, or the other way round; each is told until its own kind of answer is
/// good again.
#[derive(Debug, Default)]
pub(super) struct StoreHealth {
    write: Option<String>,
    read: Option<String>,
}

impl StoreHealth {
    pub fn wrote(&mut self) {
        self.write = None;
    }

    pub fn has_read(&mut self) {
        self.read = None;
    }

    /// `true` if changes were still taken before, so that the trouble is news.
    pub fn not_written(&mut self, error: &StoreError) -> bool {
        self.write.replace(error.to_string()).is_none()
    }

    /// `true` if reading still went well before, so that the trouble is news.
    pub fn not_read(&mut self, error: &StoreError) -> bool {
        self.read.replace(error.to_string()).is_none()
    }

    pub fn error(&self) -> Option<String> {
        self.write.clone().or_else(|| self.read.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_trouble_is_news_once_and_is_over_with_its_own_kind_of_answer() {
        let mut health = StoreHealth::default();
        let error = |why: &str| StoreError::Io { path: "/state".to_owned(), why: why.to_owned() };
        assert!(health.not_read(&error("input/output error")));
        assert!(!health.not_read(&error("input/output error")));
        assert!(health.not_written(&error("disk full")));
        assert!(!health.not_written(&error("disk full")));
        assert!(health.error().unwrap().contains("disk full"));
        health.wrote();
        assert!(health.error().unwrap().contains("input/output error"));
        health.has_read();
        assert_eq!(health.error(), None);
        assert!(health.not_written(&error("disk full")));
    }
}
