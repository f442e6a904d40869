import { dirname, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { loadGpuCatalogue } from '../adapters/catalogue-file.js';
import { InputError } from '../core/input-error.js';
import { readText } from './compose-inputs.js';
import { type ConfigFlag, type ConfigLayers, type LoadedConfig, loadConfig } from './config-layers.js';

/** The configuration of the embedded quickstart; src/service and dist/service are equally deep below the root. */
export const quickstartFile = fileURLToPath(new URL('../../samples/quickstart/gpumix.yaml', import.meta.url));

/** A configuration and where it came from. */
export type ChosenConfig = LoadedConfig & {
  readonly kind: 'file' | 'cluster' | 'quickstart';
  /** Where relative paths start. */
  readonly directory: string;
  /** For the first line that the service says. */
  readonly description: string;
};

/**
 * Decides what to serve: the given file; without one, in a cluster or with REDIS_HOST set, Redis and Kubernetes with
 * defaults; otherwise (or where it is asked for) the embedded quickstart.
 *
 * @throws InputError for a file that cannot be read or used
 */
export async function chooseConfig(options: {
  readonly configFile: string | null;
  readonly quickstart: boolean;
  readonly environment: ConfigLayers['environment'];
  readonly flags?: readonly ConfigFlag[];
  /** As in `ConfigLayers`. */
  readonly demandIsGiven?: boolean;
  /** Without a file: Redis and Kubernetes with defaults, never the quickstart. */
  readonly live?: boolean;
}): Promise<ChosenConfig> {
  const { configFile, quickstart, environment, flags = [], demandIsGiven = false, live = false } = options;
  const catalogue = await loadGpuCatalogue();
  if (configFile !== null && quickstart) {
    throw new InputError('flag --quickstart', [
      {
        place: '',
        found: 'it beside --config',
        expected: 'one of the two: the quickstart has a configuration of its own',
      },
    ]);
  }
  if (configFile !== null) {
    const file = { name: configFile, text: await readText(configFile, 'a configuration in YAML') };
    return {
      ...loadConfig({ file, environment, flags, catalogue, demandIsGiven }),
      kind: 'file',
      directory: dirname(resolve(configFile)),
      description: `configuration from ${configFile}`,
    };
  }
  if (!quickstart && (live || isSet(environment.KUBERNETES_SERVICE_HOST) || isSet(environment.REDIS_HOST))) {
    return {
      ...loadConfig({ file: null, environment, flags, catalogue }),
      kind: 'cluster',
      directory: process.cwd(),
      description: `no configuration file: Redis and Kubernetes with defaults, because ${
        isSet(environment.REDIS_HOST) ? 'REDIS_HOST is set' : 'this is a Kubernetes cluster'
      }`,
    };
  }
  // The quickstart needs no Redis, so a variable that names one is meant for something else.
  const { REDIS_HOST: _host, REDIS_PORT: _port, REDIS_PASSWORD: _password, ...others } = environment;
  const file = { name: quickstartFile, text: await readText(quickstartFile, 'the configuration of the quickstart') };
  return {
    ...loadConfig({ file, environment: others, flags, catalogue }),
    kind: 'quickstart',
    directory: dirname(quickstartFile),
    description: 'embedded quickstart: no Redis, no cluster',
  };
}

function isSet(variable: string | undefined): boolean {
  return variable !== undefined && variable !== '';
}
