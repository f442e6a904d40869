import type { JointRun } from './joint.js';
import type { Configuration, JointMember } from './joint-member.js';

/**
 * Plans made by turns: members are given their part one after the other, by priority. Never the last word, but always a
 * plan that fits, and one in which nobody wants for what lies unused.
 */

/** Members in the order in which they are given their part. */
function byPriority(members: readonly JointMember[]): readonly number[] {
  const priorityOf = (m: number): number => members[m]!.stage.formulation.model.priority;
  return members.map((_, m) => m).sort((a, b) => priorityOf(b) - priorityOf(a) || a - b);
}

/**
 * Members are given their part in turn, of what those before them and the least of those after them leave.
 *
 * @param least what each member has for sure: its floors, or more
 * @returns null where one finds none
 */
function oneAfterTheOther(
  members: readonly JointMember[],
  { limits, least }: { readonly limits: Float64Array; readonly least: readonly Float64Array[] },
  choose: (member: JointMember, room: Float64Array) => Configuration | null,
): readonly Configuration[] | null {
  const chosen: (Configuration | null)[] = members.map(() => null);
  const left = limits.map((limit, r) => limit - least.reduce((sum, use) => sum + use[r]!, 0));
  for (const m of byPriority(members)) {
    const room = left.map((amount, r) => amount + least[m]![r]!);
    const configuration = choose(members[m]!, room);
    if (configuration === null) return null;
    for (let r = 0; r < left.length; r++) left[r] = room[r]! - configuration.use[r]!;
    chosen[m] = configuration;
  }
  return chosen.map((configuration) => configuration!);
}

/** How closely a member searches when it is given its part in turn. */
function turnLimits(run: JointRun): JointRun['limits'] {
  return { ...run.limits, shouldStop: () => false, nodeLimit: 200, relativeGap: 1e-3 };
}

/** Every member as cheap as it can be with all that it could serve alone; null where what is left is too little for one. */
export function servedOneAfterTheOther(
  members: readonly JointMember[],
  limits: Float64Array,
  run: JointRun,
): readonly Configuration[] | null {
  const prices = { withMoney: true, limits: new Float64Array(limits.length), unserved: 0, required: 0 };
  return oneAfterTheOther(members, { limits, least: floorUses(members) }, (member, room) => {
    const answer = member.respond(prices, { limits: room, unservedRps: Number.POSITIVE_INFINITY }, turnLimits(run));
    run.spentNodes += answer.nodes;
    return answer.replicas === null ? null : member.know(answer.replicas);
  });
}

function floorUses(members: readonly JointMember[]): readonly Float64Array[] {
  return members.map((member) => member.useOf(member.program.lower));
}

/**
 * A plan that always fits: what is required first, then by priority, every member serves what it can of what is left, as
 * cheaply as it can.
 */
export function anyOneAfterTheOther(
  members: readonly JointMember[],
  limits: Float64Array,
  run: JointRun,
): readonly Configuration[] {
  const nothing = new Float64Array(limits.length);
  const least = floorUses(members).slice();
  if (members.some(({ requires }) => requires)) {
    oneAfterTheOther(members, { limits, least: floorUses(members) }, (member, room) => {
      if (!member.requires) return member.know(member.program.lower);
      const required = asRequired(member, room, run);
      least[members.indexOf(member)] = required.use;
      return required;
    });
  }
  const found = oneAfterTheOther(members, { limits, least }, (member, room) => {
    const most = member.respond(
      { withMoney: false, limits: nothing, unserved: 1, required: 0 },
      { limits: room, unservedRps: Number.POSITIVE_INFINITY },
      turnLimits(run),
    );
    run.spentNodes += most.nodes;
    const best = member.know(most.replicas ?? member.program.lower);
    return cheapestAt(member, { best, room, run, unservedRps: best.unservedRps });
  });
  return found ?? members.map((member) => member.know(member.program.lower));
}

/** Serves as much as it can of what it is required to, and no more for it, as cheaply as it can. */
function asRequired(member: JointMember, room: Float64Array, run: JointRun): Configuration {
  const most = member.respond(
    { withMoney: false, limits: new Float64Array(room.length), unserved: 0, required: 1 },
    { limits: room, unservedRps: Number.POSITIVE_INFINITY },
    { ...turnLimits(run), relativeGap: 0 },
  );
  run.spentNodes += most.nodes;
  const best = member.know(most.replicas ?? member.program.lower);
  return cheapestAt(member, { best, room, run, unservedRps: Math.max(best.unservedRps, member.allowedRps) });
}

/** Unserved demand that falls by less than this part of a member's demand has not fallen. */
const gainTolerance = 1e-9;

/**
 * A plan in which no member leaves demand unserved that it could serve with what lies unused, or with what members of
 * lower priority have above their floors (and are not required to serve with). What a member is required to serve comes
 * before what any other one serves without being required to.
 *
 * @param chosen a plan that fits
 * @returns the plan itself where that is so already
 */
export function refill(
  members: readonly JointMember[],
  limits: Float64Array,
  { chosen, run }: { readonly chosen: readonly Configuration[]; readonly run: JointRun },
): readonly Configuration[] {
  const order = byPriority(members);
  const priorityOf = (m: number): number => members[m]!.stage.formulation.model.priority;
  const floors = members.map((member) => member.useOf(member.program.lower));
  const result = chosen.slice();
  const isGiven = new Uint8Array(members.length);
  const nothing = new Float64Array(limits.length);
  /** What others leave of the limits where some of them give up what they have above their floors. */
  const roomBeside = (m: number, yields: (o: number) => boolean): Float64Array => {
    const room = limits.slice();
    members.forEach((_, o) => {
      if (o === m) return;
      const use = yields(o) ? floors[o]! : result[o]!.use;
      for (let r = 0; r < room.length; r++) room[r] = room[r]! - use[r]!;
    });
    return room;
  };
  let isTaken = false;
  for (const m of order) {
    const member = members[m]!;
    const { unservedRps } = result[m]!;
    if (!member.requires || unservedRps - member.allowedRps <= gainTolerance * member.totalRps) continue;
    const required = asRequired(
      member,
      roomBeside(m, (o) => !members[o]!.requires),
      run,
    );
    if (unservedRps - required.unservedRps <= gainTolerance * member.totalRps) continue;
    result[m] = required;
    isTaken = true;
  }
  for (const m of order) {
    const member = members[m]!;
    const now = result[m]!;
    const room = roomBeside(m, (o) => {
      if (isGiven[o] === 1 || members[o]!.requires) return false;
      return isTaken || priorityOf(o) < priorityOf(m);
    });
    isGiven[m] = 1;
    const fits = now.use.every((amount, r) => amount <= room[r]! * (1 + 1e-9) + 1e-12);
    const isServed = now.unservedRps <= member.leastUnservedRps + gainTolerance * member.totalRps;
    if (fits && isServed) continue;
    const most = member.respond(
      { withMoney: false, limits: nothing, unserved: 1, required: 0 },
      { limits: room, unservedRps: Number.POSITIVE_INFINITY },
      { ...turnLimits(run), relativeGap: 0 },
    );
    run.spentNodes += most.nodes;
    const best = member.know(most.replicas ?? member.program.lower);
    if (fits && now.unservedRps - best.unservedRps <= gainTolerance * member.totalRps) continue;
    result[m] = cheapestAt(member, { best, room, run, unservedRps: best.unservedRps });
  }
  return result;
}

/** The cheapest configuration within some room that leaves no more unserved than it may; a known one where none is found. */
function cheapestAt(
  member: JointMember,
  {
    best,
    room,
    run,
    unservedRps,
  }: {
    readonly best: Configuration;
    readonly room: Float64Array;
    readonly run: JointRun;
    readonly unservedRps: number;
  },
): Configuration {
  const cheapest = member.respond(
    { withMoney: true, limits: new Float64Array(room.length), unserved: 0, required: 0 },
    { limits: room, unservedRps },
    turnLimits(run),
  );
  run.spentNodes += cheapest.nodes;
  if (cheapest.replicas === null) return best;
  const cheap = member.know(cheapest.replicas);
  return cheap.unservedRps <= unservedRps * (1 + 1e-12) ? cheap : best;
}
