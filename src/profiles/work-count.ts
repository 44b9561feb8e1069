/** Work done since the start, in items visited or emitted. */
export interface WorkCount {
  endpointsVisited: number;
  selectorsEvaluated: number;
  /** Policies looked at because their tier or place changed. */
  policiesVisited: number;
  selectorsMoved: number;
  /** Policies and stacks. */
  policiesEmitted: number;
  /** Members of sets and dispatches. */
  membersEmitted: number;
}

export function noWork(): WorkCount {
  return {
    endpointsVisited: 0,
    selectorsEvaluated: 0,
    policiesVisited: 0,
    selectorsMoved: 0,
    policiesEmitted: 0,
    membersEmitted: 0,
  };
}
