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
