import type { ProfileReading } from '../core/ports.js';
import type { GpuProfile } from '../core/profile.js';

/** What is known of the profile of one deployment. */
export type KnownProfile =
  /**
   * `concern` says why it is not the newest one, where that is so; `correctionFactor` by what its throughputs were
   * multiplied, where they were.
   */
  | {
      readonly kind: 'known';
      readonly profile: GpuProfile;
      readonly concern: string | null;
      readonly correctionFactor?: number;
    }
  /** It was read, and there is none that can be used. */
  | { readonly kind: 'none'; readonly code: 'no_profile' | 'bad_profile'; readonly message: string }
  /** It was never read: its source could not be reached so far. */
  | { readonly kind: 'unread' };

const unread: KnownProfile = { kind: 'unread' };
const noProfile: KnownProfile = { kind: 'none', code: 'no_profile', message: 'it has no profile' };

type Entry = {
  readonly model: string;
  readonly epoch: string;
  readonly known: KnownProfile;
  /** It was absent in the last reading already. */
  readonly isMissing: boolean;
};

/**
 * The profiles that plans use: the newest good one of each deployment.
 *
 * A bad profile after a good one keeps the good one, with a concern in every plan. A profile that is gone in two
 * readings is gone: its deployment is then fixed at its current replicas. But where the whole store is another one than
 * before (another epoch: it was emptied or replaced) nobody deleted anything, and the last good profile stays, with a
 * concern. (Two readings, because a store may be replaced between saying who it is and being read.)
 */
export class KnownProfiles {
  readonly #byId = new Map<string, Entry>();

  /**
   * Takes what was read for one deployment.
   *
   * @param epoch names the state of the source: the run id of the store, or '' where files are read
   */
  update(input: {
    readonly id: string;
    readonly model: string;
    readonly reading: ProfileReading;
    readonly epoch: string;
  }): void {
    const { id, model, reading, epoch } = input;
    const before = this.#entry(id, model);
    const good = before?.known.kind === 'known' ? before.known.profile : null;
    const keep = (known: KnownProfile, at = epoch) =>
      this.#byId.set(id, { model, epoch: at, known, isMissing: reading.kind === 'absent' });
    switch (reading.kind) {
      case 'present':
        keep({ kind: 'known', profile: reading.profile, concern: null });
        return;
      case 'bad': {
        const message = reading.error.message;
        if (good === null)
          keep({ kind: 'none', code: 'bad_profile', message: `its profile cannot be used: ${message}` });
        else {
          const concern = `its new profile cannot be used, the last good one is kept: ${message}`;
          keep({ kind: 'known', profile: good, concern });
        }
        return;
      }
      case 'absent':
        if (before === undefined || good === null) keep(noProfile);
        else if (before.epoch !== epoch) {
          const concern = 'its profile is missing since the store was emptied or replaced; the last one read is kept';
          keep({ kind: 'known', profile: good, concern }, before.epoch);
        } else if (before.isMissing) keep(noProfile);
        else keep({ kind: 'known', profile: good, concern: 'its profile is missing; it is looked for once more' });
        return;
    }
  }

  /** A profile of the deployment for another model is not one for this model. */
  get(id: string, model: string): KnownProfile {
    return this.#entry(id, model)?.known ?? unread;
  }

  keepOnly(known: ReadonlySet<string> | ReadonlyMap<string, unknown>): void {
    for (const id of this.#byId.keys()) if (!known.has(id)) this.#byId.delete(id);
  }

  #entry(id: string, model: string): Entry | undefined {
    const entry = this.#byId.get(id);
    return entry?.model === model ? entry : undefined;
  }
}
