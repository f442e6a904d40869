/**
 * Points on a line at which something changes, taken in order: a binary heap on typed arrays, emptied and filled again
 * at every step of the simplex without allocation. Equal points come by ascending id.
 */
export class Breakpoints {
  readonly #at: Float64Array;
  readonly #id: Int32Array;
  count = 0;

  constructor(capacity: number) {
    this.#at = new Float64Array(capacity);
    this.#id = new Int32Array(capacity);
  }

  clear(): void {
    this.count = 0;
  }

  /** Adds without order; `arrange` must follow before the first `first`. */
  add(at: number, id: number): void {
    this.#at[this.count] = at;
    this.#id[this.count] = id;
    this.count++;
  }

  /** Drops points beyond `limit` and puts the rest in order. */
  arrange(limit: number): void {
    let kept = 0;
    for (let i = 0; i < this.count; i++) {
      if (!(this.#at[i]! <= limit)) continue;
      this.#at[kept] = this.#at[i]!;
      this.#id[kept] = this.#id[i]!;
      kept++;
    }
    this.count = kept;
    for (let i = (kept >> 1) - 1; i >= 0; i--) this.#sink(i, this.#at[i]!, this.#id[i]!);
  }

  /** The nearest point; Infinity where there is none. */
  firstAt(): number {
    return this.count === 0 ? Number.POSITIVE_INFINITY : this.#at[0]!;
  }

  firstId(): number {
    return this.#id[0]!;
  }

  removeFirst(): void {
    this.count--;
    if (this.count > 0) this.#sink(0, this.#at[this.count]!, this.#id[this.count]!);
  }

  /** The nearest point moves on to `at`. */
  moveFirst(at: number): void {
    this.#sink(0, at, this.#id[0]!);
  }

  #sink(from: number, at: number, id: number): void {
    const ats = this.#at;
    const ids = this.#id;
    let hole = from;
    for (;;) {
      let child = 2 * hole + 1;
      if (child >= this.count) break;
      const right = child + 1;
      if (right < this.count && (ats[right]! < ats[child]! || (ats[right] === ats[child] && ids[right]! < ids[child]!)))
        child = right;
      if (ats[child]! > at || (ats[child] === at && ids[child]! > id)) break;
      ats[hole] = ats[child]!;
      ids[hole] = ids[child]!;
      hole = child;
    }
    ats[hole] = at;
    ids[hole] = id;
  }
}
