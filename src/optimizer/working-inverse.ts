/**
 * The inverse of a small square matrix (one row and column per row of a program, a dozen or two), kept up to date
 * while its columns are exchanged one at a time.
 *
 * An exchange costs n² operations, a fresh inverse n³; the holder asks for a fresh one now and then, and before it
 * trusts an end.
 */
export class WorkingInverse {
  readonly size: number;
  /** Row by row: `rows[i * size + d]`. */
  readonly rows: Float64Array;
  /** Exchanges since the last fresh inverse. */
  age = 0;
  readonly #matrix: Float64Array;
  readonly #column: Float64Array;

  constructor(size: number) {
    this.size = size;
    this.rows = new Float64Array(size * size);
    this.#matrix = new Float64Array(size * size);
    this.#column = new Float64Array(size);
  }

  /**
   * Inverts afresh by Gauss and Jordan with row pivoting.
   *
   * @param write adds column `place` of the matrix to entries `at + d * step`, which are 0
   * @returns false where the matrix is singular; the inverse is then not usable
   */
  invert(write: (place: number, into: Float64Array, at: number, step: number) => void): boolean {
    const n = this.size;
    const m = this.#matrix;
    const inverse = this.rows;
    m.fill(0);
    inverse.fill(0);
    for (let i = 0; i < n; i++) {
      write(i, m, i, n);
      inverse[i * n + i] = 1;
    }
    for (let k = 0; k < n; k++) {
      let best = -1;
      let size = 0;
      for (let i = k; i < n; i++) {
        const candidate = Math.abs(m[i * n + k]!);
        if (candidate > size) {
          size = candidate;
          best = i;
        }
      }
      if (best < 0 || !(size > 1e-300)) return false;
      const at = k * n;
      if (best !== k) {
        const other = best * n;
        for (let j = 0; j < n; j++) {
          const swap = m[at + j]!;
          m[at + j] = m[other + j]!;
          m[other + j] = swap;
          const turn = inverse[at + j]!;
          inverse[at + j] = inverse[other + j]!;
          inverse[other + j] = turn;
        }
      }
      const scale = 1 / m[at + k]!;
      if (scale !== 1) {
        for (let j = 0; j < n; j++) {
          m[at + j] = m[at + j]! * scale;
          inverse[at + j] = inverse[at + j]! * scale;
        }
      }
      for (let i = 0; i < n; i++) {
        const row = i * n;
        const head = m[row + k]!;
        if (head === 0 || i === k) continue;
        for (let j = k; j < n; j++) m[row + j] = m[row + j]! - head * m[at + j]!;
        for (let j = 0; j < n; j++) inverse[row + j] = inverse[row + j]! - head * inverse[at + j]!;
      }
    }
    this.age = 0;
    return true;
  }

  /**
   * Replaces the column at `place` by another.
   *
   * @returns how small the pivot is against the largest entry of the column as the old basis sees it, in [0, 1]; 0 =
   *   not exchanged, the matrix would be singular
   */
  exchange(place: number, column: Float64Array): number {
    const n = this.size;
    const inverse = this.rows;
    const seen = this.#column;
    let largest = 0;
    for (let i = 0, at = 0; i < n; i++, at += n) {
      let sum = 0;
      for (let d = 0; d < n; d++) {
        const entry = column[d]!;
        if (entry !== 0) sum += inverse[at + d]! * entry;
      }
      seen[i] = sum;
      largest = Math.max(largest, Math.abs(sum));
    }
    const pivot = seen[place]!;
    if (!(Math.abs(pivot) > 1e-300)) return 0;
    const from = place * n;
    const scale = 1 / pivot;
    for (let d = 0; d < n; d++) inverse[from + d] = inverse[from + d]! * scale;
    for (let i = 0, at = 0; i < n; i++, at += n) {
      const head = seen[i]!;
      if (head === 0 || i === place) continue;
      for (let d = 0; d < n; d++) inverse[at + d] = inverse[at + d]! - head * inverse[from + d]!;
    }
    this.age++;
    return Math.abs(pivot) / largest;
  }

  /** into = inverse · right. */
  multiply(right: Float64Array, into: Float64Array): void {
    const n = this.size;
    const inverse = this.rows;
    for (let i = 0, at = 0; i < n; i++, at += n) {
      let sum = 0;
      for (let d = 0; d < n; d++) sum += inverse[at + d]! * right[d]!;
      into[i] = sum;
    }
  }

  /** into = leftᵀ · inverse. */
  multiplyLeft(left: Float64Array, into: Float64Array): void {
    const n = this.size;
    const inverse = this.rows;
    into.fill(0);
    for (let i = 0, at = 0; i < n; i++, at += n) {
      const factor = left[i]!;
      if (factor === 0) continue;
      for (let d = 0; d < n; d++) into[d] = into[d]! + factor * inverse[at + d]!;
    }
  }
}
