//! stub
use std::path::Path;
pub fn run(_droptrace: &Path) -> anyhow::Result<()> { Ok(()) }
