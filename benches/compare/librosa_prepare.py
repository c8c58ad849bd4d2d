"""What preparing audio costs with librosa: seconds of sound for each second of processor time, by part.

    venv/bin/pip install librosa
    venv/bin/python benches/compare/librosa_prepare.py FOLDER [--rate 16000] [--files 20]

Beside it: the processor time of `dit-engine prepare FOLDER --out DIR`, which does the same and more (levels, silence, mel
bands, shards), and `cargo bench --bench audio` for the transform alone. One thread: the libraries under librosa are told so.
"""

import argparse
import os
import time
import warnings
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[variable] = "1"

import librosa  # noqa: E402

SUFFIXES = {".ogg", ".mp3", ".flac", ".wav"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rate", type=int, default=16_000, help="sample rate after resampling, in hertz")
    parser.add_argument("--files", type=int, default=20, help="so many files, in the order of their names")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    files = sorted(path for path in args.folder.rglob("*") if path.suffix in SUFFIXES)[: args.files]
    if not files:
        parser.error(f"{args.folder}: no audio files")
    # Imports and compilation of the first call are not what is measured.
    librosa.stft(librosa.load(files[0], sr=args.rate, duration=1.0)[0], n_fft=1024, hop_length=256)
    load, stft, sound = 0.0, 0.0, 0.0
    for path in files:
        start = time.process_time()
        samples, rate = librosa.load(path, sr=args.rate)
        loaded = time.process_time()
        librosa.stft(samples, n_fft=1024, hop_length=256)
        load, stft = load + loaded - start, stft + time.process_time() - loaded
        sound += len(samples) / rate
    print(f"{len(files)} files, {sound:.0f} s of sound; for each second of processor time:")
    print(f"load {sound / load:.0f} s, stft {sound / stft:.0f} s, both {sound / (load + stft):.0f} s")


if __name__ == "__main__":
    main()
