import { vendorNames } from '../../core/gpu-types.js';
import { commentLines } from './comment-lines.js';
import { origin, remarks } from './export-header.js';
import type { Export, Exporter, ExportInput } from './exporter.js';
import { importPathOf, isLanguageModel, serveConfig } from './kuberay/serve-config.js';
import { type RayApp, type WorkerGroup, workerGroups } from './kuberay/worker-groups.js';
import { boundTo } from './kubernetes/deployments.js';
import { oneResources, titlesOf } from './kubernetes/device-choice.js';
import { type CommentedManifest, type Manifest, yamlFile, yamlText } from './kubernetes/documents.js';
import { listed, type NamedService, namedServices } from './kubernetes/gpu-services.js';

/**
 * One Ray cluster over all GPUs of the placement: a `RayService` (`ray.io/v1`, KubeRay 1.2 or later) whose applications take
 * fractions of them, and a Service of type ExternalName for each, named as KServe names its predictors.
 *
 * Each worker holds one device whole, so that the device plugin shares nothing and Ray does all of it.
 */
export const kuberayExporter: Exporter = {
  fileName: 'gpumix-kuberay.yaml',
  about: 'RayService with a worker group for each kind of GPU and a path for each service',
  write: writeKuberay,
};

const clusterName = 'gpumix';
const namespace = 'default';
const rayVersion = '2.52.0';
/**
 * Ray, its LLM libraries and CUDA in one, for the head and for workers with NVIDIA GPUs or none: the routers of language
 * models run on any worker. For GPUs of other vendors nobody publishes one.
 */
const rayLlmImage = `rayproject/ray-llm:${rayVersion}-py311-cu128`;
/** Names of Services are DNS-1035 labels, and `-predictor` follows. */
const serviceRule = { longest: 53, startsWithLetter: true };
const serveHost = `${clusterName}-serve-svc.${namespace}.svc.cluster.local`;

function writeKuberay(input: ExportInput): Export {
  const { placement } = input;
  const placed = namedServices(input, serviceRule);
  const { groups, apps } = workerGroups(input, placed);
  const documents = placed.length === 0 ? [] : [rayService(groups, apps, input), ...placed.map(alias)];
  const header = [
    ...commentLines(origin(placement)),
    ...commentLines(
      placed.length === 0
        ? 'Nothing was placed, so that there is nothing to serve; the file holds no object.'
        : 'kubectl apply --server-side -f FILE, where the KubeRay operator runs.',
    ),
    ...remarks(placement, 'so not served'),
  ];
  const notices =
    placed.length === 0
      ? ['Nothing was placed, so that there is nothing to serve.']
      : [...noticesOf(groups, apps), ...mixedNotices(groups, placed, input)];
  return { files: [{ fileName: kuberayExporter.fileName, text: yamlFile(header, documents) }], notices };
}

function rayService(groups: readonly WorkerGroup[], apps: readonly RayApp[], input: ExportInput): CommentedManifest {
  const head = {
    rayStartParams: { 'dashboard-host': '0.0.0.0', 'num-cpus': '0' },
    template: {
      spec: {
        containers: [
          {
            name: 'ray-head',
            image: rayLlmImage,
            ports: [
              { name: 'gcs-server', containerPort: 6379 },
              { name: 'dashboard', containerPort: 8265 },
              { name: 'client', containerPort: 10001 },
              { name: 'serve', containerPort: 8000 },
            ],
          },
        ],
      },
    },
  };
  const manifest: Manifest = {
    apiVersion: 'ray.io/v1',
    kind: 'RayService',
    metadata: { name: clusterName, namespace },
    spec: {
      // A second cluster, which an upgrade without a gap starts first, would wait for GPUs that the first one holds.
      upgradeStrategy: { type: 'None' },
      serveConfigV2: yamlText(serveConfig(apps, input)),
      rayClusterConfig: {
        rayVersion,
        headGroupSpec: head,
        // Those without an image last: their pods are refused, and the operator goes no further.
        workerGroupSpecs: [...groups]
          .sort((a, b) => Number(imageOf(a) === null) - Number(imageOf(b) === null))
          .map(workerGroup),
      },
    },
  };
  const lacking = groups.filter((group) => imageOf(group) === null).map(({ name }) => name);
  const comments = lacking.length === 0 ? [] : [`Needs an image for the containers of: ${listed(lacking)}`];
  return { comments, manifest };
}

/**
 * The image of a group's workers. A pod runs one, whatever many services it serves, and it must have Ray of this version
 * and the same Python: for NVIDIA and the CPU Ray's own, for the others the one that the request names. Null where it names
 * none: the API server then refuses the pods, where an image for other GPUs would start and find no device.
 */
function imageOf({ gpu, services }: WorkerGroup): string | null {
  if (gpu === null || gpu.vendor === 'nvidia') return rayLlmImage;
  return services.find(({ service }) => service.image !== null)?.service.image ?? null;
}

function workerGroup(group: WorkerGroup): object {
  const { name, workers, device, resource, amount, nodes, taints } = group;
  const image = imageOf(group);
  // Ray finds Gaudi and Ascend as resources of its own, GPUs by this number; KubeRay knows few names of device plugins.
  const custom = { [name]: amount, ...(device === null || device === 'GPU' ? {} : { [device]: 1 }) };
  const container = {
    name: 'ray-worker',
    ...(image === null ? {} : { image }),
    ...(resource === null ? {} : { resources: { limits: { [resource]: '1' } } }),
  };
  return {
    groupName: name,
    replicas: workers,
    minReplicas: workers,
    maxReplicas: workers,
    rayStartParams: {
      'num-gpus': device === 'GPU' ? '1' : '0',
      // Quoted twice: KubeRay puts it on a command line as it is.
      resources: JSON.stringify(JSON.stringify(custom)),
    },
    template: { spec: { ...boundTo(nodes, taints), containers: [container] } },
  };
}

/** As KServe's controller makes them for its ingress: the name of a predictor leads to where all are served. */
function alias({ name }: NamedService): CommentedManifest {
  const manifest: Manifest = {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: `${name}-predictor`, namespace },
    spec: { type: 'ExternalName', externalName: serveHost, sessionAffinity: 'None' },
  };
  return { comments: [`http://${name}-predictor:8000/${name}`], manifest };
}

function noticesOf(groups: readonly WorkerGroup[], apps: readonly RayApp[]): readonly string[] {
  const models = apps.filter(isLanguageModel);
  const plain = apps.filter((app) => !isLanguageModel(app));
  const guessed = plain.filter(({ one }) => one.service.importPath === null);
  const renamed = apps.filter(({ one }) => one.service.name !== one.name);
  const nameless = models.filter(({ one }) => one.service.model === '');
  const foreign = groups.filter(({ gpu }) => gpu !== null && gpu.vendor !== 'nvidia');
  const lacking = foreign.filter((group) => imageOf(group) === null);
  const unheeded = groups
    .filter((group) => !foreign.includes(group))
    .flatMap(({ services }) => services.filter(({ service }) => service.image !== null).map(({ name }) => name));
  const several = foreign.filter(({ services }) => imagesOf(services).length > 1);
  const tight = apps.filter(
    ({ one, part, device }) => device !== null && one.assignment.mig === undefined && part < one.assignment.share,
  );
  return [
    `Services answer at http://${serveHost}:8000/NAME. An alias such as ${apps[0]!.one.name}-predictor leads to the same place and changes no path; its name ends in cluster.local, which some clusters call otherwise.`,
    pluginNotice(apps),
    'A changed placement is applied after kubectl delete rayservice gpumix: there are no GPUs for a second cluster beside the first.',
    ...(renamed.length === 0
      ? []
      : [
          `Names that Kubernetes does not take were changed: ${listed(renamed.map(({ one }) => `${JSON.stringify(one.service.name)} is ${one.name}`))}.`,
        ]),
    ...(plain.length === 0
      ? []
      : [
          `${listed(plain.map(({ one }) => one.name))} must be importable in the image of the workers (or by runtime_env.working_dir), each as one Serve deployment of its own name: @serve.deployment(name="${plain[0]!.one.name}").`,
        ]),
    ...(guessed.length === 0
      ? []
      : [`Without importPath in the request, by name: ${listed(guessed.map((app) => importPathOf(app)))}.`]),
    ...(nameless.length === 0
      ? []
      : [`The request names no model for ${listed(nameless.map(({ one }) => one.name))}: put model_source in.`]),
    ...(tight.length === 0
      ? []
      : [
          `A shared GPU keeps 2 % back: ${listed(tight.map(({ one, part }) => `${one.name} asks for ${part}`))}. Ray counts these parts and holds nobody to them; vLLM keeps to gpu_memory_utilization, the others must keep to VRAM_BUDGET_GB.`,
        ]),
    ...(lacking.length === 0
      ? []
      : [
          `Ray publishes no image with its LLM libraries for ${listed(vendorsOf(lacking))}, and the request names none: pods of ${listed(lacking.map(({ name }) => name))} are refused until an image with ray[serve,llm] ${rayVersion} and Python 3.11 is put in (services[].image).`,
        ]),
    ...(unheeded.length === 0
      ? []
      : [
          `Workers with NVIDIA GPUs or none run ${rayLlmImage}, not what the request names for ${listed(unheeded)}: an image of a Deployment has no Ray.`,
        ]),
    ...several.map(
      ({ name, services }) =>
        `Workers of ${name} run one image, ${imagesOf(services)[0]}, though their services name ${listed(imagesOf(services))}.`,
    ),
  ];
}

function pluginNotice(apps: readonly RayApp[]): string {
  const cut = apps.some(({ one }) => one.assignment.mig !== undefined);
  return cut
    ? 'Each worker takes a whole GPU or a MIG instance from the device plugin, which must not share GPUs itself: of the export device-plugin only the cut goes with this one (gpumix-mig-parted and the label nvidia.com/mig.config), with migStrategy mixed.'
    : 'Each worker takes a whole GPU from the device plugin, which must not share GPUs itself: the export device-plugin does not go with this one.';
}

/** Workers of different groups that ask for the same resource on one node may be given each other's GPUs. */
function mixedNotices(
  groups: readonly WorkerGroup[],
  placed: readonly NamedService[],
  input: ExportInput,
): readonly string[] {
  return oneResources(input, placed).flatMap(({ resource, gpus, users, equal }) => {
    if (equal) return [];
    const names = groups.filter(({ services }) =>
      users.some((user) => services.some(({ service }) => service === user.service)),
    );
    return [
      `${resource} does not tell ${titlesOf(gpus, input)} apart: a worker of ${listed(names.map(({ name }) => name))} may hold another. A claim in the template of the group can (export kubernetes, --allocation dra, shows it).`,
    ];
  });
}

function imagesOf(services: readonly NamedService[]): readonly string[] {
  return [...new Set(services.flatMap(({ service }) => (service.image === null ? [] : [service.image])))];
}

function vendorsOf(groups: readonly WorkerGroup[]): readonly string[] {
  return [...new Set(groups.flatMap(({ gpu }) => (gpu === null ? [] : [vendorNames[gpu.vendor]])))];
}
