/** The package has no types of its own. */
declare module 'cluster-key-slot' {
  /** Slot [0, 16384) of a key, by its hash tag where it has one. */
  const calculateSlot: {
    (key: string | Buffer): number;
    generateMulti(keys: readonly (string | Buffer)[]): number;
  };
  export = calculateSlot;
}
