/** The smallest value in any window of a list, in constant time: minima of windows of 1, 2, 4, … entries (a sparse table). */
export class WindowMinimum {
  readonly #levels: readonly Float64Array[];

  constructor(values: Float64Array) {
    const levels = [Float64Array.from(values)];
    for (let width = 1; 2 * width <= values.length; width *= 2) {
      const narrow = levels.at(-1)!;
      levels.push(
        Float64Array.from({ length: values.length - 2 * width + 1 }, (_, i) =>
          Math.min(narrow[i]!, narrow[i + width]!),
        ),
      );
    }
    this.#levels = levels;
  }

  /** From `first` to `last`, both included and in the list. */
  of(first: number, last: number): number {
    const level = 31 - Math.clz32(last - first + 1);
    const minima = this.#levels[level]!;
    return Math.min(minima[first]!, minima[last + 1 - 2 ** level]!);
  }
}
