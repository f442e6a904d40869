import { profilePaths } from '../../adapters/profile-source.js';
import { profileKeyName, profileOfKey } from '../../adapters/store-keys.js';
import { canonicalGpuType, isKnownGpuType } from '../../core/gpu-types.js';
import { nearestName } from '../../core/parse.js';
import { type DoctorFacts, deploymentPlace, seenOr } from './facts.js';
import { type Finding, finding } from './report.js';

/** Whether what is deployed is what gpumix plans: labels, GPU types, pools, profiles. */

const notices = new Set(['unknown_annotation', 'misplaced_name', 'bad_annotation', 'bad_label']);

export function checkDeployments(facts: DoctorFacts): readonly Finding[] {
  const { workloads, settings, catalogue } = facts;
  if (workloads.kind === 'unseen') return [];
  const { deployments, slips } = workloads.value;
  const found: Finding[] = slips.map((slip) =>
    finding('model_label_slip', {
      place: `Deployment ${slip.id}`,
      found: slip.found,
      expected: 'label model.aibrix.ai/name: MODEL on the Deployment itself',
    }),
  );
  if (deployments.length === 0 && workloads.missing === null) {
    found.push(
      finding('no_deployments', {
        place: 'Deployments of the namespaces that gpumix follows',
        found: 'none with the label model.aibrix.ai/name',
        expected: 'at least one',
      }),
    );
  }
  const pooled = new Set(settings.pools.list.map(({ gpuType }) => canonicalGpuType(catalogue, gpuType)));
  const used = new Set(deployments.map(({ gpuType }) => gpuType));
  for (const { id, gpuType, notices: told } of deployments) {
    const place = deploymentPlace(facts, { id });
    for (const { code, message } of told) {
      if (!notices.has(code)) continue;
      found.push(finding('setting_ignored', { place, found: message, expected: 'names and values that gpumix knows' }));
    }
    if (gpuType === null || !isKnownGpuType(catalogue, gpuType)) {
      const nearest =
        gpuType === null
          ? undefined
          : nearestName(
              gpuType,
              catalogue.entries.map(({ name }) => name),
            );
      found.push(
        finding('unknown_gpu_type', {
          place,
          found:
            gpuType === null
              ? settings.isListed
                ? 'no gpuType'
                : 'nothing that names a GPU type'
              : `GPU type ${JSON.stringify(gpuType)}`,
          expected: `a type of the catalogue${nearest === undefined ? '' : `, such as ${nearest}`}`,
          ...(settings.isListed
            ? { mend: 'Name the type by deployments.list[].gpuType; unknown ones need a pool of exactly that name.' }
            : {}),
        }),
      );
    } else if (pooled.size > 0 && !settings.pools.areCounted && !pooled.has(gpuType)) {
      const nearest = nearestName(gpuType, [...pooled]);
      found.push(
        finding('type_without_pool', {
          place,
          found: `GPU type ${gpuType}, and pools of ${[...pooled].slice(0, 8).join(', ')}`,
          expected: `a pool of ${gpuType}${nearest === undefined ? '' : ` (is ${nearest} meant?)`}`,
        }),
      );
    }
  }
  if (deployments.length === 0 || workloads.missing !== null) return found;
  for (const gpuType of pooled) {
    if (used.has(gpuType)) continue;
    found.push(
      finding('pool_without_deployment', {
        place: `pools, gpuType ${gpuType}`,
        found: `no Deployment of that type, but of ${[...used].slice(0, 8).join(', ')}`,
        expected: 'a type that Deployments use',
      }),
    );
  }
  return found;
}

export function checkProfiles(facts: DoctorFacts): readonly Finding[] {
  const { workloads, profiles, keys, settings } = facts;
  if (workloads.kind === 'unseen') return [];
  const { deployments } = workloads.value;
  const stray = settings.profilesDirectory === null ? strayKeys(facts) : [];
  const found: Finding[] = [];
  if (profiles.kind === 'seen') {
    for (const { id, name, model } of deployments) {
      const reading = profiles.value.get(id);
      const key = profileKeyName({ model, deployment: name });
      if (reading === undefined || reading.kind === 'present') continue;
      const place = deploymentPlace(facts, { id });
      if (reading.kind === 'bad') {
        const expected = 'a profile in JSON';
        found.push(finding('bad_profile', { place, found: reading.error.message, expected }));
        continue;
      }
      const nearest = nearestName(key, stray);
      const wanted =
        settings.profilesDirectory === null ? `Redis key ${key}` : `${name}.json in ${settings.profilesDirectory}`;
      found.push(
        finding('deployment_without_profile', {
          place,
          found: `no profile for model ${JSON.stringify(model)}`,
          expected: `${wanted}${nearest === undefined ? '' : `; there is ${nearest}`}`,
        }),
      );
    }
  }
  const shownKeys = seenOr(keys, null)?.complete === true || stray.length > 0 ? stray : [];
  const wanted = deployments.map(({ model, name }) => profileKeyName({ model, deployment: name }));
  for (const key of shownKeys) {
    const profile = profileOfKey(key);
    if (profile === null) continue;
    const { model, deployment } = profile;
    const nearest = nearestName(key, wanted);
    found.push(
      finding('profile_without_deployment', {
        place: `Redis key ${key}`,
        found: `no ${settings.isListed ? 'entry of deployments.list' : 'Deployment'} ${JSON.stringify(deployment)} with model ${JSON.stringify(model)}`,
        expected:
          nearest === undefined ? 'a Deployment of that name and model' : `${nearest}, which a Deployment looks for`,
      }),
    );
  }
  return [...found, ...strayFiles(facts)];
}

/** Files that no Deployment looks for; none where not all Deployments were seen. */
function strayFiles({ workloads, profileFiles, settings }: DoctorFacts): readonly Finding[] {
  if (workloads.kind === 'unseen' || workloads.missing !== null || profileFiles.kind === 'unseen') return [];
  const wanted = workloads.value.deployments.flatMap(({ model, name }) => profilePaths({ model, deployment: name }));
  const known = new Set(wanted);
  return profileFiles.value
    .filter((file) => !known.has(file))
    .map((file) => {
      const nearest = nearestName(file, wanted);
      return finding('profile_without_deployment', {
        place: `${file} in ${settings.profilesDirectory}`,
        found: `no ${settings.isListed ? 'entry of deployments.list' : 'Deployment'} looks for it`,
        expected:
          nearest === undefined
            ? 'MODEL/DEPLOYMENT.json or DEPLOYMENT.json, with / in MODEL as %2F'
            : `${nearest}, which a Deployment looks for`,
        mend: 'Rename the file, or delete it where the Deployment is gone for good.',
      });
    });
}

/** Keys of profiles that no Deployment looks for; none where not all Deployments were seen. */
function strayKeys({ workloads, keys }: DoctorFacts): readonly string[] {
  if (workloads.kind === 'unseen' || workloads.missing !== null || keys.kind === 'unseen') return [];
  const wanted = new Set(
    workloads.value.deployments.map(({ model, name }) => profileKeyName({ model, deployment: name })),
  );
  return keys.value.profiles.filter((key) => !wanted.has(key));
}
