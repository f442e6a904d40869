import type { PlanningProblem, ProblemDeployment, ProblemModel } from '../core/planning-problem.js';

/**
 * Who takes which GPUs while replicas come and go: the ledger of a transition.
 *
 * A replica that was released holds its GPU until it is gone, and one that is published may take one at any moment, so
 * a deployment counts max(ready, published) replicas in its pool and in the quotas of its namespace.
 */

/** A pool or a quota. */
export type SharedRoom = {
  /** As sentences name it: `pool A100 (8 GPUs)`. */
  readonly name: string;
  readonly gpus: number;
  /**
   * GPUs that may be taken: those of the limit, or what the targets themselves need where that is more (replicas that
   * a person fixed above the limit).
   */
  room: number;
  /** GPUs that count as taken now. */
  taken: number;
  /** Of these, those of surplus replicas that are not ready. */
  idle: number;
  readonly members: Move[];
};

/** One deployment on its way from what is asked for now to its target. */
export type Move = {
  readonly model: ProblemModel;
  readonly deployment: ProblemDeployment;
  /** Asked for now; null = not known. */
  readonly current: number | null;
  /** Ready now, at most: where that is not known, as many as are asked for. They hold GPUs. */
  readonly ready: number;
  readonly isReadinessKnown: boolean;
  /** Null = not known: nothing is published, and what is ready stays. */
  readonly target: number | null;
  /** Moves in steps; otherwise it is at its target at once. */
  readonly isStaged: boolean;
  /** What this step publishes so far; null = not known. */
  published: number | null;
  /** Quotas before the pool: what leaves a quota leaves its pool as well. */
  readonly rooms: readonly SharedRoom[];
};

/** Equal numbers of GPUs may differ by this (relative): fractions of a GPU are added up. */
const tolerance = 1e-9;

/** The rooms of a problem, by GPU type: every deployment on the type is in its pools, and in quotas of its namespace. */
export function sharedRooms(problem: PlanningProblem): {
  readonly all: readonly SharedRoom[];
  readonly of: (deployment: ProblemDeployment) => readonly SharedRoom[];
} {
  const all: SharedRoom[] = [];
  const byType = new Map<string, { readonly prefix: string; readonly room: SharedRoom }[]>();
  const add = (gpuType: string, { prefix, name, gpus }: { prefix: string; name: string; gpus: number }): void => {
    const room: SharedRoom = { name: `${name} (${gpuCount(gpus)})`, gpus, room: gpus, taken: 0, idle: 0, members: [] };
    all.push(room);
    const ofType = byType.get(gpuType) ?? [];
    ofType.push({ prefix, room });
    byType.set(gpuType, ofType);
  };
  for (const { namespace, gpuType, gpus } of problem.quotas) {
    add(gpuType, { prefix: `${namespace}/`, name: `the quota of ${namespace} on ${gpuType}`, gpus });
  }
  for (const { gpuType, gpus } of problem.pools) {
    if (gpus !== null) add(gpuType, { prefix: '', name: `pool ${gpuType}`, gpus });
  }
  const of = ({ id, gpuType, gpusPerReplica }: ProblemDeployment): readonly SharedRoom[] =>
    gpusPerReplica > 0
      ? (byType.get(gpuType) ?? []).filter(({ prefix }) => id.startsWith(prefix)).map(({ room }) => room)
      : [];
  return { all, of };
}

/** Enters a deployment with what it publishes so far. */
export function enter(move: Move): void {
  for (const room of move.rooms) {
    room.members.push(move);
    room.taken += gpusOf(move);
    room.idle += idleGpus(move);
  }
}

/** Raises each room to what the targets need, once all have entered. */
export function makeRoomForTargets(rooms: readonly SharedRoom[]): void {
  for (const room of rooms) {
    let needed = 0;
    for (const { deployment, target } of room.members) needed += deployment.gpusPerReplica * (target ?? 0);
    room.room = Math.max(room.gpus, needed);
  }
}

/** Publishes another number for a deployment that has one. */
export function publish(move: Move, replicas: number): void {
  const taken = gpusOf(move);
  const idle = idleGpus(move);
  move.published = replicas;
  for (const room of move.rooms) {
    room.taken += gpusOf(move) - taken;
    room.idle += idleGpus(move) - idle;
  }
}

function gpusOf({ deployment, ready, published }: Move): number {
  return deployment.gpusPerReplica * Math.max(ready, published ?? 0);
}

function idleGpus(move: Move): number {
  return move.deployment.gpusPerReplica * unreadySurplus(move);
}

/** Does more count as taken than there is room for? */
export function isOverfull(room: SharedRoom): boolean {
  return isAbove(room.taken - room.room, room);
}

/** GPUs of replicas that are ready and stay. */
export function runningGpus(room: SharedRoom): number {
  return room.members.reduce((sum, move) => sum + move.deployment.gpusPerReplica * running(move), 0);
}

/** Are GPUs above a room more than rounding? */
export function isAbove(gpus: number, room: SharedRoom): boolean {
  return gpus > tolerance * Math.max(room.room, room.taken);
}

/** Whole replicas that free at least so many GPUs. */
export function replicasFor(gpus: number, { deployment }: Move): number {
  return Math.max(0, Math.ceil((gpus / deployment.gpusPerReplica) * (1 - tolerance) - tolerance));
}

/** GPUs that a room lacks for a deployment to publish so many replicas; <= 0 where they fit. */
export function missingGpus(move: Move, room: SharedRoom, replicas: number): number {
  const { deployment, ready } = move;
  return room.taken - gpusOf(move) + deployment.gpusPerReplica * Math.max(ready, replicas) - room.room;
}

/**
 * The most replicas that a deployment may grow to in a room on the way to its target, where `freed` GPUs count as free:
 * as many as it publishes where nothing more fits.
 */
export function mostPublished(move: Move, room: SharedRoom, freed = 0): number {
  const published = move.published ?? 0;
  const free = freed - missingGpus(move, room, published);
  if (isAbove(-free, room)) return published;
  const { ready, target, deployment } = move;
  const more = Math.floor(free / deployment.gpusPerReplica + tolerance);
  // Replicas on their way out count already.
  return Math.max(published, Math.min(target ?? published, Math.max(ready, published) + Math.max(0, more)));
}

/** Replicas that are ready and asked for: any others are on their way out, whatever is published now. */
function readyNow({ ready, current }: Move): number {
  return Math.min(ready, current ?? ready);
}

/** Replicas that are ready and stay: those that hold GPUs. */
export function running(move: Move): number {
  return Math.min(readyNow(move), move.published ?? move.ready);
}

/** Replicas that are asked for and are known to serve, whatever is published now. */
export function servingNow(move: Move): number {
  return move.isReadinessKnown ? readyNow(move) : 0;
}

/** Replicas that are known to serve, and stay. */
export function serving(move: Move): number {
  return move.isReadinessKnown ? running(move) : 0;
}

/** Replicas beyond the target that are still published. */
export function surplus({ isStaged, published, target }: Move): number {
  return isStaged && published !== null && target !== null ? Math.max(0, published - target) : 0;
}

/** Published replicas that are not ready: nobody is served by them. */
export function unready({ isStaged, published, ready }: Move): number {
  return isStaged ? Math.max(0, (published ?? 0) - ready) : 0;
}

/** Of the surplus, those that are not ready. */
export function unreadySurplus(move: Move): number {
  return Math.min(surplus(move), unready(move));
}

/** Is a replica of it on its way out? */
export function isLeaving({ ready, published }: Move): boolean {
  return published !== null && ready > published;
}

/** `8 GPUs`, `0.5 GPUs`, `1 GPU`. */
export function gpuCount(gpus: number): string {
  return `${Number(gpus.toPrecision(6))} ${gpus === 1 ? 'GPU' : 'GPUs'}`;
}
