import { z } from 'zod';
import { resource } from '../fields.ts';
import { nameColumn, resourceType, type ResourceType } from '../resource-type.ts';

const clusterInformation = resource(
  'ClusterInformation',
  z.looseObject({
    clusterGUID: z.exactOptional(z.string()),
    clusterType: z.exactOptional(z.string()),
    calicoVersion: z.exactOptional(z.string()),
    datastoreReady: z.exactOptional(z.boolean()),
  }),
);

/** The one object `default` that says that a datastore is initialised. `calicoVersion` is left unset by us. */
export type ClusterInformation = z.infer<typeof clusterInformation>;

export const clusterInformationType: ResourceType<ClusterInformation> = resourceType({
  kind: 'ClusterInformation',
  plural: 'clusterinformations',
  meaning: 'identity and lock state of the datastore',
  protection: () => 'fixed',
  schema: clusterInformation,
  columns: [
    nameColumn,
    { header: 'clusterguid', cell: ({ spec }) => spec.clusterGUID ?? '' },
    { header: 'clustertype', cell: ({ spec }) => spec.clusterType ?? '' },
    { header: 'calicoversion', cell: ({ spec }) => spec.calicoVersion ?? '' },
    { header: 'datastoreready', cell: ({ spec }) => String(spec.datastoreReady ?? true) },
  ],
});

/** Annotation of the lock of a move of all data to another datastore, or of a restore; see `MoveMark`. */
const moveAnnotation = 'docker.projectcalico.org/move';

const moveMark = z.object({
  /**
   * `copying`: the data is being copied from here, and is still that of the host. `arriving`: it is being copied to
   * here. `moved`: it was copied from here, completely; this copy is out of date. `restored`: it is that of a backup,
   * and the hosts write into it what they have received since.
   */
  state: z.enum(['copying', 'arriving', 'moved', 'restored']),
  id: z.string(),
  /** The node that does it. */
  node: z.string(),
  /** The datastores, for people. */
  from: z.string(),
  to: z.string(),
  /** RFC 3339. */
  since: z.string(),
});

/** Why a datastore is locked, and by whom, if its data is or was being moved or restored. */
export type MoveMark = z.infer<typeof moveMark>;

/** Returns the mark of a move; `undefined` without one, or if another program has changed it. */
export function moveMarkOf(information: ClusterInformation): MoveMark | undefined {
  const text = information.metadata.annotations?.[moveAnnotation];
  if (text === undefined) return undefined;
  try {
    return moveMark.parse(JSON.parse(text));
  } catch {
    return undefined;
  }
}

/** Returns the locked form of a ClusterInformation with a mark, or the unlocked form without one. */
export function withMoveMark(
  information: ClusterInformation,
  mark: MoveMark | undefined,
): ClusterInformation {
  const { annotations: before = {}, ...metadata } = information.metadata;
  const others = Object.entries(before).filter(([name]) => name !== moveAnnotation);
  const own = mark === undefined ? [] : [[moveAnnotation, JSON.stringify(mark)] as const];
  const annotations = Object.fromEntries([...others, ...own]);
  return {
    ...information,
    metadata: { ...metadata, ...(others.length + own.length > 0 ? { annotations } : {}) },
    spec: { ...information.spec, datastoreReady: mark === undefined },
  };
}
