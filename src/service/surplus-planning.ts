import type { PlanNotice } from '../core/plan.js';
import { RequestsInFlight } from '../demand/requests-in-flight.js';
import type { PoolTraits } from '../profiling/pooling.js';
import type { ModelState } from './fleet.js';

/** Plans for requests in flight that nothing explains (`demand/requests-in-flight.ts`), model by model. */
export class SurplusPlanning {
  readonly #byModel = new Map<string, RequestsInFlight>();

  /**
   * Raises the planned demand of a model by what its requests in flight add, and tells of it in its demand.
   *
   * @param input.traits of its deployments at the mix of this cycle, by id
   * @returns what its plan must say of it
   */
  plan(
    state: Pick<ModelState, 'name' | 'deployments' | 'history' | 'demand' | 'planDemand' | 'hold'>,
    input: {
      readonly traits: ReadonlyMap<string, PoolTraits>;
      readonly readyReplicasOf: (id: string) => number | null;
      readonly nowMs: number;
    },
  ): readonly PlanNotice[] {
    const { name, history, demand, hold } = state;
    if (history === null || demand === null) return [];
    let inFlight = this.#byModel.get(name);
    if (inFlight === undefined) {
      inFlight = new RequestsInFlight();
      this.#byModel.set(name, inFlight);
    }
    inFlight.follow(history);
    // What is held is not planned, and its window says little.
    if (hold !== null) return [];
    const { forecastRps } = demand;
    const surplus = inFlight.surplus(history, {
      nowMs: input.nowMs,
      latencySeconds: meanLatency(state, input),
      forecastRps,
      horizonSeconds: demand.forecast.horizonSeconds,
    });
    state.demand = { ...demand, inFlightSurplus: surplus };
    if (surplus === null || !(surplus.addedRps > 0) || !(forecastRps > 0)) return [];
    const factor = 1 + surplus.addedRps / forecastRps;
    state.planDemand = state.planDemand.map((bucket) => ({ ...bucket, rps: bucket.rps * factor }));
    return [
      {
        code: 'in_flight_surplus',
        message: `${name}: more requests are in flight than arrivals and completed lengths explain: answers become longer, or requests queue, and the plan is made for more than the forecast`,
        model: name,
      },
    ];
  }

  /** Forgets models that are gone. */
  keepOnly(models: ReadonlyMap<string, unknown>): void {
    for (const name of this.#byModel.keys()) if (!models.has(name)) this.#byModel.delete(name);
  }
}

/**
 * Mean E2E latency of a model's requests on the replicas that serve now, all of them equally full, by their profiles [s]:
 * requests in flight over requests/s. Null where none serves, or the profile of one that does tells no latency.
 */
function meanLatency(
  { deployments }: Pick<ModelState, 'deployments'>,
  { traits, readyReplicasOf }: Pick<Parameters<SurplusPlanning['plan']>[1], 'traits' | 'readyReplicasOf'>,
): number | null {
  let requests = 0;
  let rps = 0;
  for (const { id, currentReplicas } of deployments) {
    const replicas = readyReplicasOf(id) ?? currentReplicas ?? 0;
    if (replicas === 0) continue;
    const own = traits.get(id);
    if (own === undefined || own.latencySeconds === null) return null;
    requests += replicas * own.inFlight;
    rps += (replicas * own.inFlight) / own.latencySeconds;
  }
  return rps > 0 ? requests / rps : null;
}
