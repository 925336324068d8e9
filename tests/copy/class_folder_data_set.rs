use super::class_folders::ClassFolders;

pub fn check() -> Result<(), Box<dyn std::error::Error>> {
    for (class, name) in [("river", "a.png"), ("forest", "b.png"), ("forest", "notes.txt")] {
        std::fs::create_dir_all(format!("pictures/{class}"))?;
        match name.ends_with("png") {
            true => image::RgbImage::new(4, 3).save(format!("pictures/{class}/{name}"))?,
            false => std::fs::write(format!("pictures/{class}/{name}"), "a note")?,
        }
    }
    let set = ClassFolders::read("pictures")?;
    assert_eq!((set.classes, set.others.len()), (vec!["forest".to_string(), "river".to_string()], 1));
    assert_eq!(set.files.iter().map(|(_, label)| *label).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(image::open(&set.files[1].0)?.into_rgb8().dimensions(), (4, 3));
    Ok(())
}
