/**
 * Silence of a whole fleet. One model that falls quiet is idle; models that are busy in the same moment and never heard
 * of again are more likely a gateway whose tracing was switched off, and the two look alike in the window of each.
 *
 * A model is *busy* as `DemandWindow.busy` says. The fleet *fell silent* when all of this holds:
 *   a. at least two busy models have their newest trace within two intervals of the newest trace of any model;
 *   b. no model has a trace since, for three intervals (or the window, where that is shorter) and the lateness.
 * From then until a newer trace of any model, silence means nothing: tracing that works makes it mean idleness again.
 * The intervals of the silence itself stay unknown, so that they do not count as a quiet time when the traces are back.
 *
 * It concerns every model that had a trace in the window before; one that was idle by then stays idle.
 */

/** What is known of the traces of one model. */
export type ModelTraces = {
  readonly name: string;
  /** End of its newest interval that has a trace [Unix s]; null = none. */
  readonly newestTraceSeconds: number | null;
  readonly busy: boolean;
};

/** Intervals that say nothing when they are absent: those that end after one moment and before another [Unix s]. */
export type UntracedSpan = {
  readonly afterSeconds: number;
  /** The trace that ended the silence; null = it lasts. */
  readonly beforeSeconds: number | null;
};

/** One silence of the fleet, and the models that it concerns. */
export type FleetSilence = UntracedSpan & { readonly models: readonly string[] };

/** Fewer models that fall silent together are idle: with a single one, nothing tells the two apart. */
const fewestModels = 2;

/** Newest traces of busy models lie this close together, where all of them end in the same moment. */
const togetherIntervals = 2;

/** Busy models are not all quiet for as long as this by chance. */
const silentIntervals = 3;

/** Intervals older than this are in no window and no key [s]. */
const rememberedSeconds = 660;

/**
 * What is known of the fleet's silences after one more reading of the traces.
 *
 * @param input.silences as this function returned them last, oldest first, also in an earlier process
 * @returns the same array where nothing changed; at most the last one lasts
 */
export function followFleetSilences(input: {
  readonly silences: readonly FleetSilence[];
  readonly models: readonly ModelTraces[];
  readonly nowSeconds: number;
  readonly intervalSeconds: number;
  readonly latenessSeconds: number;
  readonly windowSeconds: number;
}): readonly FleetSilence[] {
  const { models, nowSeconds, intervalSeconds, latenessSeconds, windowSeconds } = input;
  let newest = Number.NEGATIVE_INFINITY;
  for (const { newestTraceSeconds } of models) newest = Math.max(newest, newestTraceSeconds ?? newest);

  const silences = followSilences(input.silences, newest, nowSeconds - Math.max(rememberedSeconds, 2 * windowSeconds));
  if (lastingSilence(silences) !== null) return silences;

  const silentSeconds = Math.min(silentIntervals * intervalSeconds, windowSeconds) + latenessSeconds;
  if (!(nowSeconds - newest >= silentSeconds) || newest === Number.NEGATIVE_INFINITY) return silences;
  const hasTraceAfter = (model: ModelTraces, seconds: number): boolean => (model.newestTraceSeconds ?? -1) > seconds;
  const isTogether = (model: ModelTraces): boolean =>
    hasTraceAfter(model, newest - togetherIntervals * intervalSeconds - 1);
  if (models.filter((model) => model.busy && isTogether(model)).length < fewestModels) return silences;
  const concerned = models.filter((model) => isTogether(model) || hasTraceAfter(model, newest - windowSeconds));
  return [...silences, { afterSeconds: newest, beforeSeconds: null, models: concerned.map(({ name }) => name) }];
}

/** The silence that lasts; null = none does. */
export function lastingSilence(silences: readonly FleetSilence[]): FleetSilence | null {
  const last = silences.at(-1);
  return last !== undefined && last.beforeSeconds === null ? last : null;
}

/** Ends the silence that lasts where a newer trace was seen, and forgets those that ended long ago. */
function followSilences(
  silences: readonly FleetSilence[],
  newest: number,
  oldestSeconds: number,
): readonly FleetSilence[] {
  const followed = silences
    .map((silence) => {
      const isOver = silence.beforeSeconds === null && newest > silence.afterSeconds;
      return isOver ? { ...silence, beforeSeconds: newest } : silence;
    })
    .filter(({ beforeSeconds }) => beforeSeconds === null || beforeSeconds >= oldestSeconds);
  const isSame = followed.length === silences.length && followed.every((silence, i) => silence === silences[i]);
  return isSame ? silences : followed;
}
