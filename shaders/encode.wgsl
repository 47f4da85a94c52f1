// f32 vectors to records; what is the same in all forms.
override CODEC: u32;
override DIM: u32;
@group(0) @binding(0) var<storage, read> vectors: array<u32>;
@group(0) @binding(1) var<storage, read_write> pages: array<u32>;
