import { readFileSync } from 'node:fs';
import { parseRedisUrl, type RedisSettings } from '../adapters/redis-settings.js';
import { createRedisStore } from '../adapters/redis-store.js';
import { profileKeyName } from '../adapters/store-keys.js';
import { InputError, quoteInput } from '../core/input-error.js';
import { Unavailable } from '../core/ports.js';
import { type GpuProfile, profileDocument } from '../core/profile.js';
import { describeFileFault, writeWholeFile } from './whole-file.js';

/** What writing a profile needs of the process around it. */
export type ProfileOutputSurroundings = {
  readonly write: (text: string) => void;
  readonly writeError: (text: string) => void;
};

/** Where a profile goes. */
export type ProfileTarget =
  | { readonly kind: 'stdout' }
  | { readonly kind: 'file'; readonly path: string }
  | {
      readonly kind: 'redis';
      readonly settings: RedisSettings;
      readonly model: string;
      readonly deployment: string;
    };

/**
 * Reads the flags that say where a profile goes, before any work is done for it:
 * nothing or `-` = standard output, `redis://[user[:password]@]host[:port][/database][?model=NAME]`, `rediss://` the same
 * with TLS, else a file. User and password are percent-decoded.
 *
 * @param options.output the flag `-o`
 * @param options.model the flag `--model`: whose key it is in Redis, where the URL does not say
 * @param options.deployment name of the deployment, without its namespace: the other half of the key
 * @param options.cacert PEM file of the authority that signed the certificate of Redis
 * @throws InputError; no message repeats what may be a password
 */
export function parseProfileTarget(options: {
  readonly output: string | undefined;
  readonly model: string | undefined;
  readonly deployment: string;
  readonly cacert?: string | undefined;
}): ProfileTarget {
  const { output, deployment, cacert } = options;
  const isRedis = output !== undefined && /^rediss?:/i.test(output.trim());
  if (cacert !== undefined && (output === undefined || !/^rediss:/i.test(output.trim()))) {
    const found = 'an output without TLS';
    throw new InputError('--cacert', [{ place: '', found, expected: 'a rediss:// URL as output (-o)' }]);
  }
  if (output === undefined || output === '-') return { kind: 'stdout' };
  if (output === '') {
    throw new InputError('-o', [{ place: '', found: '""', expected: 'a file, redis://host:port?model=NAME, or -' }]);
  }
  if (!isRedis) {
    // A misspelt scheme would else become a file of that name, with the password in it.
    const scheme = /^([a-z][a-z0-9+.-]*(?=:)|rediss?(?=\/)):?\/\//i.exec(output)?.[1];
    if (scheme === undefined) return { kind: 'file', path: output };
    throw new InputError('-o', [{ place: 'scheme', found: quoteInput(scheme), expected: 'redis, rediss, or a file' }]);
  }
  const { url, model } = splitModel(output.trim(), options.model);
  if (deployment.includes('/')) {
    throw new InputError('deployment', [
      {
        place: '',
        found: quoteInput(deployment),
        expected: "the deployment's name without its namespace: by that name gateway and optimizer look it up",
      },
    ]);
  }
  const settings = parseRedisUrl(url, '-o');
  const tls = settings.tls === null || cacert === undefined ? settings.tls : { ...settings.tls, ca: readPem(cacert) };
  return { kind: 'redis', settings: { ...settings, tls }, model, deployment };
}

/** Takes `?model=` out of a URL, which is no setting of a connection. */
function splitModel(output: string, flag: string | undefined): { readonly url: string; readonly model: string } {
  const [base = '', query = ''] = output.split(/\?(.*)/s, 2);
  const parameters = new URLSearchParams(query);
  const stated = parameters.getAll('model').filter((name) => name !== '');
  parameters.delete('model');
  const names = new Set([...stated, ...(flag === undefined || flag === '' ? [] : [flag])]);
  if (names.size === 0) {
    throw new InputError('-o', [
      {
        place: 'query.model',
        found: 'nothing',
        expected: 'whose profile it is: ?model=NAME in the URL, or --model NAME',
      },
    ]);
  }
  if (names.size > 1) {
    const found = `${names.size} names: ${[...names].map(quoteInput).join(', ')}`;
    throw new InputError('-o', [{ place: 'query.model', found, expected: 'the same name as --model, once' }]);
  }
  const rest = parameters.toString();
  return { url: rest === '' ? base : `${base}?${rest}`, model: [...names][0]! };
}

function readPem(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw new InputError('--cacert', [{ place: file, found: describeFileFault(error), expected: 'a PEM file' }]);
  }
}

/**
 * Writes a profile to where it goes: JSON in one line, or indented where `indent` says so.
 *
 * @returns the exit code: 0 written, 1 Redis could not be reached or refused
 * @throws InputError for a file that cannot be written
 */
export async function writeProfile(options: {
  readonly target: ProfileTarget;
  readonly profile: GpuProfile;
  readonly indent?: boolean;
  readonly around: ProfileOutputSurroundings;
}): Promise<number> {
  const { target, profile, around } = options;
  const text = JSON.stringify(profileDocument(profile), null, options.indent === true ? 2 : undefined);
  switch (target.kind) {
    case 'stdout':
      around.write(`${text}\n`);
      return 0;
    case 'file':
      await writeWholeFile({ path: target.path, text: `${text}\n`, flag: '-o' });
      return 0;
    case 'redis': {
      const key = { model: target.model, deployment: target.deployment };
      const store = createRedisStore(target.settings, { now: () => Date.now() });
      try {
        await store.writeProfile(key, text);
      } catch (error) {
        if (!(error instanceof Unavailable)) throw error;
        around.writeError(`gpumix: ${error.message}\n`);
        return 1;
      } finally {
        await store.close();
      }
      // AIBrix's own words, which scripts look for.
      around.write(`Result stored in Redis: ${profileKeyName(key)}.\n`);
      return 0;
    }
  }
}
