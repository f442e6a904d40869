import { canonicalGpuType, type GpuCatalogue, gpuByName, gpuOrPart } from '../../core/gpu-types.js';
import { InputError, quoteInput } from '../../core/input-error.js';
import { type ModelCatalogue, modelByName, weightFormatInName } from '../../core/model-types.js';
import { nearestName } from '../../core/parse.js';
import type { ProfileSource } from '../../core/ports.js';
import type { GpuProfile, ProfileGrid } from '../../core/profile.js';
import type { FleetDeployment } from '../../simulation/backtest/backtest.js';
import { stepTimesOf } from '../../simulation/step-time.js';
import { type Config, type ConfiguredDeployment, modelConfig } from '../config.js';

/**
 * The fleet of a backtest: for each configured deployment of one model the truth (how an engine of the catalogue behaves
 * on that GPU) and the belief (its profile, as the service would read it).
 */
export type BacktestFleet = {
  /** The model that the requests of the trace ask for. */
  readonly model: string;
  readonly members: readonly FleetMember[];
};

/** One deployment: as it is configured, as it is believed, as it is. */
export type FleetMember = {
  readonly configured: ConfiguredDeployment;
  readonly profile: GpuProfile;
  readonly deployment: FleetDeployment;
};

/** What the fleet is made of. */
export type FleetSources = {
  readonly config: Config;
  /** Names the configuration in errors. */
  readonly source: string;
  readonly profiles: ProfileSource;
  readonly gpus: GpuCatalogue;
  readonly models: ModelCatalogue;
};

/**
 * Reads profiles and catalogue for every deployment of the model.
 *
 * @throws InputError that names the deployment whose profile, GPU or price is missing, or the model that is not known
 */
export async function backtestFleet(sources: FleetSources): Promise<BacktestFleet> {
  const { config, source, profiles } = sources;
  const model = backtestModel(config, source);
  const listed = config.deployments.list.filter((deployment) => deployment.model === model);
  const readings = await profiles.read(
    listed.map(({ namespace, name }) => ({ id: `${namespace}/${name}`, model, deployment: name })),
  );
  const members = listed.map((configured, index): FleetMember => {
    const reading = readings[index]!;
    const id = `${configured.namespace}/${configured.name}`;
    if (reading.kind === 'bad') throw reading.error;
    if (reading.kind === 'absent') {
      throw fault(source, id, `no profile of ${model} for it`, profileExpected(config, model, configured.name));
    }
    const deployment = fleetDeployment(configured, { ...sources, model, profile: reading.profile });
    return { configured, profile: reading.profile, deployment };
  });
  return { model, members };
}

/** The same fleet, believed to be faster (1.2) or slower (0.8) than its profiles say: what a wrong profile does. */
export function withBelief(fleet: BacktestFleet, factor: number): BacktestFleet {
  if (factor === 1) return fleet;
  const scaled = ({ tputs, ...grid }: ProfileGrid): ProfileGrid => ({
    ...grid,
    tputs: tputs.map((row) => row.map((tput) => (tput === null ? null : tput * factor))),
  });
  const members = fleet.members.map(({ configured, profile, deployment }): FleetMember => {
    const grid = scaled(profile.grid);
    return { configured, profile: { ...profile, grid }, deployment: { ...deployment, profile: grid } };
  });
  return { ...fleet, members };
}

/** Only some of its deployments. */
export function partOfFleet(fleet: BacktestFleet, keeps: (member: FleetMember) => boolean): BacktestFleet {
  return { ...fleet, members: fleet.members.filter(keeps) };
}

/** The model that the trace asks for: the one that is named, else the only one that is configured. */
function backtestModel({ simulation, deployments }: Config, source: string): string {
  const names = [...new Set(deployments.list.map(({ model }) => model))];
  const expected = 'deployments.source: config with a deployments.list, whose replicas can be simulated';
  if (names.length === 0) throw fault(source, 'deployments', 'no list of deployments', expected);
  const { model } = simulation;
  if (model === null) {
    if (names.length === 1) return names[0]!;
    const wanted = 'simulation.model: which of them the requests of the trace ask for';
    throw fault(source, 'simulation.model', `nothing, beside ${names.length} configured models`, wanted);
  }
  if (names.includes(model)) return model;
  const suggestion = nearestName(model, names);
  throw new InputError(source, [
    {
      place: 'simulation.model',
      found: quoteInput(model),
      expected: `a model of deployments.list: ${names.join(', ')}`,
      ...(suggestion === undefined ? {} : { suggestion }),
    },
  ]);
}

function profileExpected({ profiles }: Config, model: string, deployment: string): string {
  return profiles.source === 'files'
    ? `${model}/${deployment}.json or ${deployment}.json in profiles.directory (\`gpumix gen-profile\` or \`gpumix estimate\` writes one)`
    : `the profile in Redis (\`gpumix gen-profile\` writes it), or profiles.source: files`;
}

type Believed = FleetSources & { readonly model: string; readonly profile: GpuProfile };

function fleetDeployment(configured: ConfiguredDeployment, believed: Believed): FleetDeployment {
  const { config, source, gpus, profile } = believed;
  const { simulation } = config;
  const id = `${configured.namespace}/${configured.name}`;
  const gpuName = configured.gpuType;
  const gpu = gpuName === null ? undefined : gpuOrPart(gpus, gpuName);
  if (gpu === undefined) {
    const found = gpuName === null ? 'no gpuType' : `gpuType ${quoteInput(gpuName)}`;
    throw fault(source, id, found, 'a GPU of the catalogue, so that its replicas can be simulated');
  }
  const usdPerReplicaHour = priceOf(configured, believed);
  if (usdPerReplicaHour === null) {
    throw fault(source, id, 'no price', 'usdPerReplicaHour, the cost of its profile, or a GPU with a list price');
  }
  const model = simulatedModel(believed);
  const named = weightFormatInName(believed.model);
  const stepTimes = stepTimesOf({
    gpu,
    model,
    gpusPerReplica: configured.gpusPerReplica,
    weightPrecision:
      modelConfig(config, believed.model).weightPrecision ?? named?.precision ?? model.publishedPrecision,
    bitsPerWeight: named?.bitsPerWeight ?? null,
  });
  return {
    id,
    gpuType: canonicalGpuType(gpus, gpu.name),
    gpusPerReplica: configured.gpusPerReplica,
    usdPerReplicaHour,
    minReplicas: configured.minReplicas,
    maxReplicas: configured.maxReplicas,
    startup: {
      medianSeconds: configured.startupSeconds ?? simulation.startupSeconds,
      spread: simulation.startupSpread,
    },
    engine: {
      stepTimes,
      limits: {
        maxSequences: simulation.maxSequences,
        maxBatchedTokens: simulation.maxBatchedTokens,
        // Requests are whole tokens, and at least one in and one out: the nearest limit of an engine refuses the same ones.
        maxTokens: Math.max(1, Math.floor(configured.maxTokens ?? model.maxTokens)),
      },
    },
    profile: profile.grid,
  };
}

/** The catalogue's model whose engine is simulated. */
function simulatedModel({ config, source, model, models }: Believed): NonNullable<ReturnType<typeof modelByName>> {
  const name = config.simulation.catalogueModel ?? model;
  const found = modelByName(models, name);
  if (found?.task === 'generate') return found;
  const suggestion = nearestName(
    name,
    models.entries.map((entry) => entry.name),
  );
  throw new InputError(source, [
    {
      place: 'simulation.catalogueModel',
      found: found === undefined ? quoteInput(name) : `${found.name}, which makes embeddings`,
      expected: 'a model of the catalogue that writes tokens: its engine is simulated',
      ...(suggestion === undefined ? {} : { suggestion }),
    },
  ]);
}

/** As the service decides: the configuration, then the profile's cost, then list price × GPUs. */
function priceOf(configured: ConfiguredDeployment, { profile, gpus }: Believed): number | null {
  if (configured.usdPerReplicaHour !== null) return configured.usdPerReplicaHour;
  if (profile.cost !== null) return profile.cost;
  const listed = configured.gpuType === null ? null : gpuByName(gpus, configured.gpuType)?.usdPerGpuHour;
  return listed ? listed * configured.gpusPerReplica : null;
}

function fault(source: string, place: string, found: string, expected: string): InputError {
  return new InputError(source, [{ place, found, expected }]);
}
