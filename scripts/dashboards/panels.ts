import {
  type Dashboard,
  DashboardCursorSync,
  defaultDashboard,
  type FieldConfigSource,
  type MatcherConfig,
  type Panel,
  type RowPanel,
  ThresholdsMode,
  VariableHide,
  type VariableModel,
  VariableRefresh,
  VariableSort,
} from '@grafana/schema';

/**
 * What the dashboards are made of. The compiler holds them against the types that Grafana publishes of its schema; what
 * panels have in common (data source, grid, colours, legends) is said here once.
 */

export type Unit = 'currencyUSD' | 'percentunit' | 'reqps' | 's' | 'short' | 'bytes' | 'none';

export type Query = {
  readonly expr: string;
  /** Grafana's legend, with `{{label}}`; of a table: its column. */
  readonly legend: string;
};

/** Colour from a value on; the first one has no value. */
type Step = { readonly value: number | null; readonly color: string };

/** `first` below every value that is named, and each other colour from its value on. */
export function colorSteps(
  first: string,
  ...others: readonly (readonly [from: number, color: string])[]
): readonly Step[] {
  return [{ value: null, color: first }, ...others.map(([value, color]) => ({ value, color }))];
}

export type PanelSpec = {
  readonly title: string;
  /** What a person asks who looks at it. */
  readonly question: string;
  /** How to read the answer: what is counted, what is good, what is absent and why. */
  readonly reading: string;
  /** Columns of 24. */
  readonly width: number;
  readonly unit: Unit;
  readonly queries: readonly [Query, ...Query[]];
  /** From which value on it deserves a look; absent = no value is better than another. */
  readonly thresholds?: readonly Step[];
  /** Shown where there is no series: what its absence means. */
  readonly noValue?: string;
} & (
  | { readonly kind: 'stat'; readonly shows?: 'value' | 'name' }
  | {
      readonly kind: 'timeseries';
      readonly stacked?: boolean;
      readonly maximum?: number;
      /** Series that are limits, by legend (regular expression): dashed, and outside of a stack. */
      readonly limits?: string;
    }
  | {
      readonly kind: 'states';
      readonly states: Readonly<Record<string, { readonly text: string; readonly color: string }>>;
    }
  | {
      readonly kind: 'table';
      readonly labels: Readonly<Record<string, string>>;
      /** Units of columns, by title, that differ from the panel's. */
      readonly columnUnits?: Readonly<Record<string, Unit>>;
      readonly sortBy: string;
    }
  | { readonly kind: 'matrix'; readonly row: string; readonly column: string }
);

export type RowSpec = {
  readonly title: string;
  /** Height of its panels [grid units of 30 px]. */
  readonly height: number;
  readonly panels: readonly PanelSpec[];
};

export type DashboardSpec = {
  readonly uid: string;
  readonly title: string;
  readonly description: string;
  readonly variables: readonly VariableModel[];
  readonly rows: readonly RowSpec[];
};

const columns = 24;
const datasource = { type: 'prometheus', uid: '$datasource' } as const;

/** Selector of a metric of the chosen gpumix, and of the chosen models or namespaces where it has them. */
export function series(metric: string, matchers: readonly ('model' | 'namespace')[] = []): string {
  const chosen = matchers.map((label) => `,${label}=~"$${label}"`);
  return `${metric}{job="$job"${chosen.join('')}}`;
}

/** Grafana takes the first option where this is none of them. */
const noneYet = { text: '', value: '' } as const;

const fromLabels = (name: string, label: string, query: string, more: Partial<VariableModel>): VariableModel => ({
  type: 'query',
  name,
  label,
  datasource,
  query: { query, refId: 'StandardVariableQuery' },
  refresh: VariableRefresh.onTimeRangeChanged,
  sort: VariableSort.naturalAsc,
  hide: VariableHide.dontHide,
  current: noneYet,
  options: [],
  ...more,
});

/** Every one of several, and all of them at first. */
const several = { multi: true, includeAll: true, allValue: '.*', current: { text: 'All', value: '$__all' } } as const;

const variables = {
  datasource: {
    type: 'datasource',
    name: 'datasource',
    label: 'Data source',
    query: 'prometheus',
    hide: VariableHide.dontHide,
    current: noneYet,
    options: [],
    refresh: VariableRefresh.onDashboardLoad,
  },
  // One at a time: a second gpumix in shadow mode plans the same fleet again, and sums would count it twice.
  job: fromLabels('job', 'gpumix', 'label_values(gpumix_input_ok, job)', {}),
  namespace: fromLabels(
    'namespace',
    'Namespace',
    'label_values({__name__=~"gpumix_(desired|current)_replicas",job="$job"}, namespace)',
    several,
  ),
  model: fromLabels(
    'model',
    'Model',
    'label_values({__name__=~"gpumix_(desired_replicas|demand_rps|plan_held)",job="$job"}, model)',
    several,
  ),
} as const satisfies Readonly<Record<string, VariableModel>>;

export const chooseFleet: readonly VariableModel[] = [variables.datasource, variables.job];
export const chooseModels: readonly VariableModel[] = [...chooseFleet, variables.model];
export const chooseDeployments: readonly VariableModel[] = [...chooseFleet, variables.namespace, variables.model];

export function dashboardOf({ uid, title, description, variables: list, rows }: DashboardSpec): Dashboard {
  const panels: (Panel | RowPanel)[] = [];
  let id = 0;
  let y = 0;
  for (const row of rows) {
    id += 1;
    panels.push({
      id,
      type: 'row',
      title: row.title,
      collapsed: false,
      gridPos: { x: 0, y, w: columns, h: 1 },
      panels: [],
    });
    y += 1;
    let x = 0;
    for (const spec of row.panels) {
      if (x + spec.width > columns) {
        x = 0;
        y += row.height;
      }
      id += 1;
      panels.push({ id, ...panelOf(spec), gridPos: { x, y, w: spec.width, h: row.height } });
      x += spec.width;
    }
    y += row.height;
  }
  return {
    uid,
    title,
    description,
    tags: ['gpumix'],
    // Numbered by Grafana when it stores the dashboard.
    id: null,
    version: 1,
    schemaVersion: defaultDashboard.schemaVersion,
    editable: true,
    graphTooltip: DashboardCursorSync.Crosshair,
    // Plans change every ten seconds, and a scrape every fifteen or thirty tells of them.
    refresh: '30s',
    time: { from: 'now-6h', to: 'now' },
    timezone: 'browser',
    fiscalYearStartMonth: 0,
    annotations: { list: [] },
    links: [
      {
        type: 'dashboards',
        title: 'gpumix',
        tags: ['gpumix'],
        asDropdown: true,
        includeVars: true,
        keepTime: true,
        targetBlank: false,
        icon: 'external link',
        tooltip: '',
        url: '',
      },
    ],
    templating: { list: [...list] },
    panels,
  };
}

const isInstant = ({ kind }: PanelSpec): boolean => kind === 'stat' || kind === 'table' || kind === 'matrix';

function panelOf(spec: PanelSpec): Omit<Panel, 'id' | 'gridPos'> {
  return {
    type: spec.kind === 'states' ? 'state-timeline' : spec.kind === 'matrix' ? 'table' : spec.kind,
    title: spec.title,
    description: `${spec.question}\n\n${spec.reading}`,
    datasource,
    targets: spec.queries.map(({ expr, legend }, i) => ({
      refId: String.fromCharCode(65 + i),
      datasource,
      editorMode: 'code',
      expr,
      legendFormat: legend,
      format: spec.kind === 'table' || spec.kind === 'matrix' ? 'table' : 'time_series',
      instant: isInstant(spec),
      range: !isInstant(spec),
    })),
    fieldConfig: fieldConfigOf(spec),
    options: optionsOf(spec),
    ...(spec.kind === 'table' || spec.kind === 'matrix' ? { transformations: transformationsOf(spec) } : {}),
  };
}

function fieldConfigOf(spec: PanelSpec): FieldConfigSource {
  const { unit, noValue, thresholds = colorSteps('text') } = spec;
  const isByThreshold = spec.thresholds !== undefined && spec.kind !== 'timeseries';
  return {
    defaults: {
      unit,
      ...(noValue === undefined ? {} : { noValue }),
      ...(spec.kind === 'timeseries' ? { min: 0 } : {}),
      ...(spec.kind === 'timeseries' && spec.maximum !== undefined ? { max: spec.maximum } : {}),
      color: colorOf(spec, isByThreshold),
      thresholds: { mode: ThresholdsMode.Absolute, steps: thresholds.map((step) => ({ ...step })) },
      mappings: mappingsOf(spec),
      custom: customOf(spec),
    },
    overrides: overridesOf(spec),
  };
}

type Color = NonNullable<FieldConfigSource['defaults']['color']>;

function colorOf({ kind }: PanelSpec, isByThreshold: boolean): Color {
  const mode =
    kind === 'matrix' ? 'continuous-BlYlRd' : kind === 'timeseries' ? 'palette-classic-by-name' : 'thresholds';
  return isByThreshold || mode !== 'thresholds'
    ? { mode: mode as Color['mode'] }
    : { mode: 'fixed' as Color['mode'], fixedColor: 'text' };
}

function mappingsOf(spec: PanelSpec): NonNullable<FieldConfigSource['defaults']['mappings']> {
  if (spec.kind !== 'states') return [];
  type Mapping = NonNullable<FieldConfigSource['defaults']['mappings']>[number];
  const type = 'value' as Extract<Mapping, { options: Record<string, unknown> }>['type'];
  return [{ type, options: { ...spec.states } } as Mapping];
}

function customOf(spec: PanelSpec): Record<string, unknown> {
  switch (spec.kind) {
    case 'timeseries':
      return {
        drawStyle: 'line',
        lineInterpolation: 'stepAfter',
        lineWidth: 1,
        fillOpacity: spec.stacked === true ? 40 : 5,
        showPoints: 'never',
        // A number that was not known is a gap, as long as it was not.
        spanNulls: false,
        stacking: { mode: spec.stacked === true ? 'normal' : 'none', group: 'A' },
        thresholdsStyle: { mode: spec.thresholds === undefined ? 'off' : 'dashed' },
      };
    case 'states':
      return { fillOpacity: 70, lineWidth: 0, spanNulls: false };
    case 'table':
      return { align: 'auto', filterable: true };
    case 'matrix':
      return { align: 'center', cellOptions: { type: 'color-background', mode: 'basic' } };
    case 'stat':
      return {};
  }
}

type Override = FieldConfigSource['overrides'][number];
const byName = (title: string): MatcherConfig => ({ id: 'byName', options: title });

function overridesOf(spec: PanelSpec): Override[] {
  if (spec.kind === 'table') {
    return Object.entries(spec.columnUnits ?? {}).map(([title, unit]) => ({
      matcher: byName(title),
      properties: [{ id: 'unit', value: unit }],
    }));
  }
  if (spec.kind === 'matrix') {
    // The ends of rows are text, not a number with a colour.
    return [
      {
        matcher: { id: 'byType', options: 'string' },
        properties: [{ id: 'custom.cellOptions', value: { type: 'auto' } }],
      },
    ];
  }
  if (spec.kind === 'timeseries' && spec.limits !== undefined) {
    return [
      {
        matcher: { id: 'byRegexp', options: spec.limits },
        properties: [
          { id: 'custom.lineStyle', value: { fill: 'dash', dash: [8, 6] } },
          { id: 'custom.fillOpacity', value: 0 },
          { id: 'custom.stacking', value: { mode: 'none', group: 'limits' } },
          { id: 'custom.lineWidth', value: 2 },
        ],
      },
    ];
  }
  return [];
}

function optionsOf(spec: PanelSpec): Record<string, unknown> {
  switch (spec.kind) {
    case 'stat':
      return {
        colorMode: spec.thresholds === undefined ? 'none' : 'value',
        graphMode: 'none',
        justifyMode: 'auto',
        orientation: 'auto',
        textMode: spec.shows === 'name' ? 'name' : 'auto',
        wideLayout: true,
        reduceOptions: { calcs: ['lastNotNull'], fields: '', values: false },
      };
    case 'timeseries':
      return {
        legend: {
          displayMode: 'table',
          placement: 'right',
          showLegend: true,
          calcs: ['lastNotNull', 'max'],
          width: 260,
        },
        tooltip: { mode: 'multi', sort: 'desc' },
      };
    case 'states':
      return {
        mergeValues: true,
        showValue: 'auto',
        alignValue: 'left',
        rowHeight: 0.9,
        legend: { displayMode: 'list', placement: 'bottom', showLegend: true },
        tooltip: { mode: 'single', sort: 'none' },
      };
    case 'table':
      return { showHeader: true, cellHeight: 'sm', sortBy: [{ displayName: spec.sortBy, desc: true }] };
    case 'matrix':
      return { showHeader: true, cellHeight: 'sm' };
  }
}

function transformationsOf(spec: PanelSpec & { kind: 'table' | 'matrix' }): NonNullable<Panel['transformations']> {
  if (spec.kind === 'matrix') {
    // Labels are text, which sorts 1024 before 64.
    const conversions = [spec.row, spec.column].map((targetField) => ({ targetField, destinationType: 'number' }));
    const sortBy = (field: string) => ({ id: 'sortBy', options: { fields: {}, sort: [{ field }] } });
    return [
      { id: 'convertFieldType', options: { fields: {}, conversions } },
      sortBy(spec.column),
      sortBy(spec.row),
      {
        id: 'groupingToMatrix',
        options: { columnField: spec.column, rowField: spec.row, valueField: 'Value', emptyValue: 'null' },
      },
    ];
  }
  // Of several queries the value of A is named `Value #A`, of one alone `Value`.
  const nameOf = (i: number) => (spec.queries.length === 1 ? 'Value' : `Value #${String.fromCharCode(65 + i)}`);
  const valueNames = spec.queries.map(({ legend }, i) => [nameOf(i), legend] as const);
  const names = [...Object.entries(spec.labels), ...valueNames];
  return [
    { id: 'merge', options: {} },
    {
      id: 'organize',
      options: {
        excludeByName: { Time: true },
        indexByName: Object.fromEntries(names.map(([name], i) => [name, i])),
        renameByName: Object.fromEntries(names),
      },
    },
  ];
}
