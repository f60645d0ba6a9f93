// SPDX-License-Identifier: Apache-2.0
//! Looking for octets in files.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Files are mostly space that was set aside: pages of zeros are passed over.
const PAGE_OCTETS: usize = 4096;
/// Octets of a needle at least; shorter ones are found by chance.
const NEEDLE_OCTETS: usize = 8;

/// What is looked for, by what it is.
#[derive(Default)]
pub(crate) struct Needles(Vec<(String, Vec<u8>)>);

impl Needles {
    pub(crate) fn add(&mut self, what: &str, octets: impl AsRef<[u8]>) {
        let octets = octets.as_ref();
        // Where it begins with zeros, its beginning may lie in a page that is passed over.
        let start = octets.iter().position(|octet| *octet != 0).unwrap();
        assert!(octets.len() - start >= NEEDLE_OCTETS, "{what} is too short to look for");
        self.0.push((what.to_owned(), octets[start..].to_vec()));
    }

    /// What is in `hay`.
    pub(crate) fn in_octets(&self, hay: &[u8]) -> BTreeSet<String> {
        let mut starts = vec![false; 1 << 16];
        for (_, needle) in &self.0 {
            starts[usize::from(u16::from_be_bytes([needle[0], needle[1]]))] = true;
        }
        let (zeros, mut found) = ([0; PAGE_OCTETS], BTreeSet::new());
        let mut page = 0;
        while page < hay.len() {
            let end = (page + PAGE_OCTETS).min(hay.len());
            if hay[page..end] != zeros[..end - page] {
                for at in page..end {
                    let Some(&[first, second]) = hay.get(at..at + 2) else { break };
                    if starts[usize::from(u16::from_be_bytes([first, second]))] {
                        let here = self.0.iter().filter(|(_, needle)| hay[at..].starts_with(needle));
                        found.extend(here.map(|(what, _)| what.clone()));
                    }
                }
            }
            page = end;
        }
        found
    }

    /// What is in the files under `path`, as `needle in file`.
    pub(crate) fn under(&self, path: &Path) -> BTreeSet<String> {
        if path.is_dir() {
            let entries = fs::read_dir(path).unwrap();
            return entries.flat_map(|entry| self.under(&entry.unwrap().path())).collect();
        }
        // A file that went away meanwhile holds nothing any more.
        let hay = fs::read(path).unwrap_or_default();
        self.in_octets(&hay).into_iter().map(|what| format!("{what} in {}", path.display())).collect()
    }
}

#[test]
fn a_needle_is_found_wherever_it_lies_and_another_is_not() {
    let mut needles = Needles::default();
    needles.add("word", b"needle-in-hay");
    needles.add("key", [&[0, 0, 7][..], &[9; 29]].concat());
    for at in [0, 1, PAGE_OCTETS - 5, PAGE_OCTETS, 3 * PAGE_OCTETS - 13] {
        let mut hay = vec![0; 3 * PAGE_OCTETS];
        hay[at..at + 13].copy_from_slice(b"needle-in-hay");
        assert_eq!(needles.in_octets(&hay), BTreeSet::from(["word".to_owned()]), "{at}");
        hay[at] = b'N';
        assert_eq!(needles.in_octets(&hay), BTreeSet::new(), "{at}");
    }
}
