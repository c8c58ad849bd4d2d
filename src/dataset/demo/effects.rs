//! What happens to a whole track: overdrive, echo, reverberation, tone, level.

use super::oscillators::LowPass;

/// Scales a track to a root mean square, unless it is silent.
pub(super) fn level_to(track: &mut [f32], target: f32) {
    let gain = target / rms(track).max(1e-9);
    if gain.is_finite() && gain < 1e6 {
        track.iter_mut().for_each(|x| *x *= gain);
    }
}

/// Root mean square, summed in f64.
pub(super) fn rms(track: &[f32]) -> f32 {
    let power: f64 = track.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    (power / track.len().max(1) as f64).sqrt() as f32
}

/// x / (1 + |x|): a smooth overdrive that never passes 1.
pub(super) fn overdrive(track: &mut [f32], gain: f32) {
    track.iter_mut().for_each(|x| *x = gain * *x / (1.0 + (gain * *x).abs()));
}

/// Adds repeats of the track, each darker and half as loud as the last.
pub(super) fn echo(track: &mut [f32], delay: usize, mix: f32) {
    let mut line = vec![0.0_f32; delay.max(1)];
    let mut smooth = 0.0;
    for (at, x) in track.iter_mut().enumerate() {
        let slot = at % line.len();
        smooth += 0.5 * (line[slot] - smooth);
        line[slot] = *x + 0.45 * smooth;
        *x += mix * smooth;
    }
}

/// A reverberator after Schroeder and Moorer, with Freeverb's delays: eight damped combs side by side, then
/// two all-passes. Returns the wet signal.
pub(super) fn reverb(track: &[f32], rate_hz: f64) -> Vec<f32> {
    let scaled = |samples_at_44k1: f64| vec![0.0_f32; (samples_at_44k1 * rate_hz / 44_100.0) as usize + 1];
    let mut combs = [1116.0, 1188.0, 1277.0, 1356.0, 1422.0, 1491.0, 1557.0, 1617.0]
        .map(|n| (scaled(n), 0.0_f32, 0_usize));
    let mut allpasses = [556.0, 225.0].map(|n| (scaled(n), 0_usize));
    let wet = track.iter().map(|&x| {
        let mut sum = 0.0;
        for (line, smooth, at) in &mut combs {
            let out = line[*at];
            sum += out;
            *smooth += 0.7 * (out - *smooth);
            line[*at] = x + 0.82 * *smooth;
            *at = if *at + 1 == line.len() { 0 } else { *at + 1 };
        }
        sum *= 0.125;
        for (line, at) in &mut allpasses {
            let delayed = line[*at];
            line[*at] = sum + 0.5 * delayed;
            sum = delayed - 0.5 * line[*at];
            *at = if *at + 1 == line.len() { 0 } else { *at + 1 };
        }
        sum
    });
    wet.collect()
}

/// The song's brightness over all but the drums: a bright mix has what lies above 1.5 kHz doubled, a dark one is
/// cut above 1.1 kHz, 12 dB an octave.
pub(super) fn tone(mix: &mut [f32], bright: bool, rate_hz: f64) {
    let mut filter = LowPass::default();
    filter.set(if bright { 1500.0 } else { 1100.0 }, 1.414, rate_hz);
    for x in mix {
        let low = filter.next(*x);
        *x = if bright { 2.0 * *x - low } else { low };
    }
}

/// A dark song's drums, cut above 2.2 kHz: less than the rest, or a hat would be gone.
pub(super) fn muffle(drums: &mut [f32], bright: bool, rate_hz: f64) {
    let mut filter = LowPass::default();
    filter.set(2200.0, 1.414, rate_hz);
    if !bright {
        drums.iter_mut().for_each(|x| *x = filter.next(*x));
    }
}

/// Brings the song to `target` root mean square with peaks rounded off below `CEILING`. Rounding costs a little
/// level, so the gain is found in a few turns.
pub(super) fn master(mix: &mut [f32], target: f32) {
    let mut gain = target / rms(mix).max(1e-9);
    for _ in 0..4 {
        let power: f64 = mix.iter().map(|&x| square(soft_limit(gain * x))).sum();
        let reached = (power / mix.len().max(1) as f64).sqrt() as f32;
        gain *= target / reached.max(1e-9);
    }
    mix.iter_mut().for_each(|x| *x = soft_limit(gain * *x));
}

/// Straight up to `KNEE`, then bending towards `CEILING`, with no corner.
fn soft_limit(x: f32) -> f32 {
    const KNEE: f32 = 0.5;
    const CEILING: f32 = 0.95;
    let over = x.abs() - KNEE;
    if over <= 0.0 {
        return x;
    }
    let room = CEILING - KNEE;
    (KNEE + room * over / (room + over)).copysign(x)
}

/// Removes what is below hearing (one pole at about 20 Hz) and fades both ends: 10 ms in, 1.5 s (at most a
/// quarter) out.
pub(super) fn finish(mix: &mut [f32], rate_hz: f64) {
    let follow = (2.0 * std::f64::consts::PI * 20.0 / rate_hz) as f32;
    let mut offset = 0.0;
    for x in mix.iter_mut() {
        offset += follow * (*x - offset);
        *x -= offset;
    }
    let rise = (0.01 * rate_hz) as usize;
    let fall = ((1.5 * rate_hz) as usize).min(mix.len() / 4).max(1);
    for (at, x) in mix.iter_mut().take(rise).enumerate() {
        *x *= at as f32 / rise as f32;
    }
    for (left, x) in mix.iter_mut().rev().take(fall).enumerate() {
        let level = left as f32 / fall as f32;
        *x *= level * level * (3.0 - 2.0 * level);
    }
}

fn square(x: f32) -> f64 {
    f64::from(x) * f64::from(x)
}
