//! Compiles `proto/` without `protoc`, and leaves the descriptors for gRPC reflection and a table of what messages are made of.

use std::{
    env,
    error::Error,
    fmt::{self, Write as _},
    fs,
    path::PathBuf,
};

use protox::{
    prost::Message as _,
    prost_reflect::prost_types::{
        FieldDescriptorProto, FileDescriptorSet,
        field_descriptor_proto::{Label, Type},
    },
};

const PACKAGE: &str = "counterfoil.v1";

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    println!("cargo:rerun-if-changed={}", root.display());

    let descriptors = protox::compile(["counterfoil/v1/log.proto"], [&root])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    fs::write(out.join("parts.rs"), parts(&descriptors)?)?;
    tonic_prost_build::configure()
        .bytes(".")
        .codec_path("crate::codec::BoundedCodec")
        .compile_fds(descriptors)?;
    Ok(())
}

/// `BoundedMessage` for each message of the package.
fn parts(descriptors: &FileDescriptorSet) -> Result<String, fmt::Error> {
    let mut source = String::new();
    let files = descriptors.file.iter().filter(|file| file.package() == PACKAGE);
    for message in files.flat_map(|file| &file.message_type) {
        writeln!(source, "impl BoundedMessage for crate::v1::{} {{", message.name())?;
        writeln!(source, "    const PARTS: Parts = Parts(&[")?;
        for (number, parts) in message.field.iter().filter_map(part) {
            writeln!(source, "        ({number}, {parts}),")?;
        }
        writeln!(source, "    ]);")?;
        let lists = |field: &FieldDescriptorProto| {
            field.r#type() == Type::Message && field.label() == Label::Repeated
        };
        let most = if message.field.iter().any(lists) {
            "MAX_PARTS"
        } else {
            "MAX_PARTS_OF_ONE"
        };
        writeln!(source, "    const MAX_PARTS: usize = {most};\n}}")?;
        assert!(
            message.nested_type.is_empty(),
            "a message within a message is not in the table"
        );
    }
    Ok(source)
}

/// If each value of a field takes memory of its own: the field's number, and the `Parts` of such a value.
fn part(field: &FieldDescriptorProto) -> Option<(i32, String)> {
    let parts = match field.r#type() {
        Type::Message => {
            let name = field.type_name().rsplit('.').next().unwrap_or_default();
            format!("<crate::v1::{name} as BoundedMessage>::PARTS")
        }
        Type::String | Type::Bytes if field.label() == Label::Repeated => "Parts(&[])".to_owned(),
        _ => return None,
    };
    Some((field.number(), parts))
}
