# SPDX-License-Identifier: Apache-2.0
"""The front end of the MLPerf Tiny keyword spotting model in numpy: one second of sound -> 49 frames of 10 MFCCs.

It follows what the benchmark's Python computes with tf.signal (github.com/mlcommons/tiny, training/keyword_spotting,
get_dataset.py and the defaults of kws_util.py): the clip divided by its largest sample, frames of 30 ms every 20 ms
under a periodic Hann window, the magnitude of a 512-point FFT, 40 triangular mel filters from 20 to 4000 Hz with peaks
of 1, log(mel + 1e-6), and the first 10 coefficients of a DCT-II times sqrt(2 / 40), the first one too
(tf.signal.mfccs_from_log_mel_spectrograms).
"""

from __future__ import annotations

import numpy as np

RATE = 16000  # samples per second; a clip is one second
WINDOW, STRIDE, FFT = 480, 320, 512
MELS, LOWEST, HIGHEST = 40, 20.0, 4000.0
COEFFICIENTS = 10
FLOOR = 1e-6
FRAMES = 1 + (RATE - WINDOW) // STRIDE


def mfcc(clip: np.ndarray) -> np.ndarray:
    """A clip of up to 16000 samples at 16 kHz, of any amplitude (zeros fill it up) -> float32 [49, 10, 1]."""
    sound = np.zeros(RATE)
    sound[: len(clip)] = clip[:RATE]
    sound /= max(sound.max(), 1e-9)
    starts = np.arange(FRAMES) * STRIDE
    frames = sound[starts[:, None] + np.arange(WINDOW)]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    spectrum = np.abs(np.fft.rfft(frames * hann, FFT))
    logs = np.log(spectrum @ mel_filters() + FLOOR)
    return (logs @ dct_matrix())[:, :, None].astype(np.float32)


def mel(hertz: np.ndarray | float) -> np.ndarray:
    """The HTK mel scale."""
    return 1127 * np.log1p(np.asarray(hertz) / 700)


def mel_filters() -> np.ndarray:
    """[FFT / 2 + 1, MELS]: triangles that are straight on the mel scale, with peaks of 1; the DC bin counts nowhere."""
    edges = np.linspace(mel(LOWEST), mel(HIGHEST), MELS + 2)
    bins = mel(np.arange(FFT // 2 + 1) * RATE / FFT)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    filters = np.maximum(0, np.minimum(rising, falling))
    filters[0] = 0
    return filters


def dct_matrix() -> np.ndarray:
    """[MELS, COEFFICIENTS]: DCT-II times sqrt(2 / MELS)."""
    angles = np.pi / MELS * np.outer(np.arange(MELS) + 0.5, np.arange(COEFFICIENTS))
    return np.sqrt(2 / MELS) * np.cos(angles)


def resample_double(clip: np.ndarray) -> np.ndarray:
    """8 kHz -> 16 kHz: the band-limited interpolation of the whole clip (its spectrum, zero above 4 kHz)."""
    spectrum = np.fft.rfft(clip)
    return np.fft.irfft(spectrum, 2 * len(clip)) * 2
