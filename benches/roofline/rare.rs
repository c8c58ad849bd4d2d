//! Operations whose kernels no preset reaches: other heads and rows, sizes that packs do not fit, a few of `others`.

use dit_engine::backend::*;
use dit_engine::cuda::memory::Buffer;
use dit_engine::error::Result;

use crate::watched::Watched;

/// Head dims and rows that each have kernels of their own, and a row that has those for any.
const HEAD_DIMS: [usize; 3] = [32, 96, 128];
const ROWS: [usize; 5] = [512, 1024, 2048, 4096, 257];
const TOKENS: usize = 256;

/// Buffers that keep what is uploaded to them.
struct Pool<'a>(&'a Watched);

impl Pool<'_> {
    fn some(&self, len: usize) -> Result<Buffer> {
        self.filled(self.0.alloc(len)?, len)
    }

    fn activations(&self, len: usize) -> Result<Buffer> {
        self.filled(self.0.alloc_activation(len)?, len)
    }

    fn weights(&self, len: usize) -> Result<Buffer> {
        self.filled(self.0.alloc_weights(len)?, len)
    }

    fn filled(&self, mut buf: Buffer, len: usize) -> Result<Buffer> {
        self.0.fill(Watched::view_mut(&mut buf, 0..len), 0.0);
        Ok(buf)
    }
}

fn all(buf: &Buffer) -> <Watched as Backend>::Ref<'_> {
    Watched::view(buf, 0..buf.len())
}

fn all_mut(buf: &mut Buffer) -> <Watched as Backend>::Mut<'_> {
    let len = buf.len();
    Watched::view_mut(buf, 0..len)
}

/// Runs all of them once.
pub fn run(watched: &Watched) -> Result<()> {
    let pool = Pool(watched);
    HEAD_DIMS.into_iter().try_for_each(|head_dim| attention(&pool, head_dim))?;
    ROWS.into_iter().try_for_each(|dim| norm(&pool, dim))?;
    unaligned_products(&pool)?;
    [[4, 4], [3, 5]].into_iter().try_for_each(|patch| patches(&pool, patch))?;
    lookups(&pool)?;
    let (mut x, mut y) = (pool.activations(TOKENS * TOKENS)?, pool.some(TOKENS * TOKENS)?);
    watched.fill(all_mut(&mut x), 1.0);
    watched.fill(all_mut(&mut y), 1.0);
    watched.find_non_finite(all(&x));
    watched.find_non_finite(all(&y));
    watched.check()
}

fn attention(pool: &Pool, head_dim: usize) -> Result<()> {
    let dims = AttentionDims { batch: 2, tokens: TOKENS, heads: 2, head_dim };
    let len = dims.batch * dims.tokens * dims.heads * head_dim;
    let (qkv, mut dqkv) = (pool.activations(3 * len)?, pool.activations(3 * len)?);
    let (mut out, dout) = (pool.activations(len)?, pool.activations(len)?);
    let mut lse = pool.some(dims.batch * dims.heads * dims.tokens)?;
    pool.0.attention_forward(all_mut(&mut out), all_mut(&mut lse), all(&qkv), dims);
    pool.0.attention_backward(all_mut(&mut dqkv), all(&dout), all(&out), all(&lse), all(&qkv), dims);
    Ok(())
}

fn norm(pool: &Pool, dim: usize) -> Result<()> {
    let dims = TokenDims { batch: 4, tokens: TOKENS, dim };
    let (x, mut y) = (pool.activations(dims.len())?, pool.activations(dims.len())?);
    let (weight, mut dweight, mut dbias) = (pool.some(dim)?, pool.some(dim)?, pool.some(dim)?);
    let mut stats = pool.some(2 * dims.rows())?;
    let eps = 1e-5;
    pool.0.norm_affine_forward(
        all_mut(&mut y),
        all_mut(&mut stats),
        all(&x),
        all(&weight),
        all(&weight),
        eps,
        dims,
    );
    pool.0.norm_affine_backward(
        all_mut(&mut y),
        Write::Replace,
        all_mut(&mut dweight),
        all_mut(&mut dbias),
        all(&x),
        all(&x),
        all(&stats),
        all(&weight),
        dims,
    );
    Ok(())
}

fn unaligned_products(pool: &Pool) -> Result<()> {
    let dims = MatmulDims { rows: 2 * TOKENS, columns: 131, inner: 129 };
    let (x, mut dx) = (pool.activations(dims.rows * dims.inner)?, pool.activations(dims.rows * dims.inner)?);
    let (mut y, dy) =
        (pool.activations(dims.rows * dims.columns)?, pool.activations(dims.rows * dims.columns)?);
    let (w, mut dw) = (pool.weights(dims.columns * dims.inner)?, pool.some(dims.columns * dims.inner)?);
    let bias = pool.some(dims.columns)?;
    let (none, bias) = (Activation::Identity, all(&bias));
    pool.0.matmul_forward(all_mut(&mut y), None, all(&x), all(&w), Some(bias), none, dims);
    pool.0.matmul_residual_forward(all_mut(&mut y), None, all(&x), all(&w), bias, all(&dy), None, dims);
    pool.0.matmul_backward_input(all_mut(&mut dx), Write::Replace, all(&dy), all(&w), dims);
    pool.0.matmul_backward_weight(all_mut(&mut dw), None, all(&dy), all(&x), dims);
    Ok(())
}

fn patches(pool: &Pool, [patch_height, patch_width]: [usize; 2]) -> Result<()> {
    let (height, width) = (16 * patch_height, 16 * patch_width);
    let dims = PatchDims { batch: 2, channels: 2, height, width, patch_height, patch_width, dim: 64 };
    let (image, mut dimage) = (pool.some(2 * 2 * height * width)?, pool.some(2 * 2 * height * width)?);
    let len = dims.batch * dims.tokens() * dims.dim;
    let (tokens, mut dtokens) = (pool.activations(len)?, pool.activations(len)?);
    let (w, mut dw) = (pool.weights(dims.dim * dims.patch_len())?, pool.some(dims.dim * dims.patch_len())?);
    let (bias, mut dbias) = (pool.some(dims.dim)?, pool.some(dims.dim)?);
    let watched = pool.0;
    watched.patch_embed_forward(all_mut(&mut dtokens), all(&image), all(&w), all(&bias), dims);
    watched.patch_embed_backward_input(all_mut(&mut dimage), Write::Replace, all(&tokens), all(&w), dims);
    watched.patch_embed_backward_weight(
        all_mut(&mut dw),
        all_mut(&mut dbias),
        all(&tokens),
        all(&image),
        dims,
    );
    let (bias, mut dbias) = (pool.some(dims.channels)?, pool.some(dims.channels)?);
    watched.patch_deembed_forward(all_mut(&mut dimage), all(&tokens), all(&w), all(&bias), dims);
    watched.patch_deembed_backward_input(all_mut(&mut dtokens), Write::Replace, all(&image), all(&w), dims);
    watched.patch_deembed_backward_weight(
        all_mut(&mut dw),
        all_mut(&mut dbias),
        all(&image),
        all(&tokens),
        dims,
    );
    Ok(())
}

fn lookups(pool: &Pool) -> Result<()> {
    let (dim, indices) = (TOKENS, (0..TOKENS as u32).map(|i| i % 7).collect::<Vec<u32>>());
    let (table, mut dtable) = (pool.some(8 * dim)?, pool.some(8 * dim)?);
    let mut out = pool.some(indices.len() * dim)?;
    pool.0.lookup_forward(all_mut(&mut out), all(&table), &indices, dim);
    pool.0.lookup_backward(all_mut(&mut dtable), all(&out), &indices, dim);
    Ok(())
}
