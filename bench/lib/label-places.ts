// Where the names beside the marks of a picture go: as near as they can be, inside the frame, over no mark and over no other
// name; where that can be, also off lines, nearest to their own mark, and with a free way to it. A crowded mark's name moves
// away, and its caller draws the leader to it. Pure.

export interface Box {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}
export interface Point {
  readonly x: number;
  readonly y: number;
}
/** A mark, and the size of its name. */
export interface Labelled extends Point {
  readonly width: number;
  readonly height: number;
}

const MARK_RADIUS = 5;
const DISTANCES = [2, 8, 16, 26, 38, 52, 68, 86, 106, 128, 152, 180];
const DIRECTIONS = 24;
/** What is bad about a place, in pixels that one would rather go further away. */
const LINE_COST = 40;
const AMBIGUITY_COST = 30;
const CROSSING_COST = 60;

export const overlaps = (a: Box, b: Box, gap = 0): boolean =>
  a.x < b.x + b.width + gap && b.x < a.x + a.width + gap && a.y < b.y + b.height + gap && b.y < a.y + a.height + gap;

const isInside = (box: Box, frame: Box): boolean =>
  box.x >= frame.x &&
  box.y >= frame.y &&
  box.x + box.width <= frame.x + frame.width &&
  box.y + box.height <= frame.y + frame.height;

const aroundMark = ({ x, y }: Point): Box => ({
  ...{ x: x - MARK_RADIUS, y: y - MARK_RADIUS, width: 2 * MARK_RADIUS, height: 2 * MARK_RADIUS },
});

/** One box for each, in their order. `lines` are points that lie on lines. Throws where there is no room. */
export function placeLabels(labelled: readonly Labelled[], frame: Box, lines: readonly Point[] = []): Box[] {
  const places = new Map<Labelled, Box>();
  const avoided = [...lines];
  for (const one of mostCrowdedFirst(labelled)) {
    const taken = [...labelled.map(aroundMark), ...places.values()];
    const free = candidates(one).filter(({ box }) => isInside(box, frame) && !taken.some((it) => overlaps(it, box, 1)));
    const [first, ...others] = free.map((candidate) => ({
      box: candidate.box,
      cost: candidate.distance + faultsOf(one, candidate.box, labelled, [...places.values()], avoided),
    }));
    if (!first)
      throw new RangeError(
        `no room for a name at ${one.x}, ${one.y}: give the frame more than ${frame.width} x ${frame.height}`,
      );
    const { box } = others.reduce((best, other) => (other.cost < best.cost ? other : best), first);
    places.set(one, box);
    avoided.push(...leaderPoints(one, box));
  }
  return labelled.map((one) => places.get(one) ?? aroundMark(one));
}

/** The line from a mark to its name, where that is so far away that it needs one. */
export function leaderOf(mark: Point, box: Box): readonly [Point, Point] | undefined {
  const end = nearestIn(box, mark);
  return distanceOf(mark, end) < LEADER_FROM ? undefined : [mark, end];
}
const LEADER_FROM = 14;
const LEADER_STEP = 3;

function leaderPoints(mark: Point, box: Box): Point[] {
  const leader = leaderOf(mark, box);
  if (!leader) return [];
  const [, end] = leader;
  const steps = Math.ceil(distanceOf(mark, end) / LEADER_STEP);
  return Array.from({ length: steps }, (_, i) => ({
    x: mark.x + ((end.x - mark.x) * i) / steps,
    y: mark.y + ((end.y - mark.y) * i) / steps,
  }));
}

function faultsOf(
  one: Labelled,
  box: Box,
  labelled: readonly Labelled[],
  names: readonly Box[],
  lines: readonly Point[],
): number {
  const others = labelled.filter((other) => other !== one);
  const reach = (mark: Point) => distanceOf(mark, nearestIn(box, mark));
  const leader = leaderPoints(one, box);
  const isCrossed = leader.some(
    (point) =>
      names.some((name) => isIn(point, name)) || others.some((mark) => distanceOf(mark, point) < MARK_RADIUS + 1),
  );
  return (
    (lines.some((point) => isIn(point, box)) ? LINE_COST : 0) +
    (others.some((mark) => reach(mark) < reach(one)) ? AMBIGUITY_COST : 0) +
    (isCrossed ? CROSSING_COST : 0)
  );
}

const distanceOf = (a: Point, b: Point): number => Math.hypot(a.x - b.x, a.y - b.y);

const nearestIn = (box: Box, { x, y }: Point): Point => ({
  x: Math.max(box.x, Math.min(x, box.x + box.width)),
  y: Math.max(box.y, Math.min(y, box.y + box.height)),
});

const isIn = ({ x, y }: Point, box: Box): boolean => overlaps({ x, y, width: 0, height: 0 }, box, 1);

interface Candidate {
  readonly box: Box;
  readonly distance: number;
}

/** Boxes that touch a circle around the mark from outside; to the right first, as text is read. */
function candidates({ x, y, width, height }: Labelled): Candidate[] {
  return DISTANCES.flatMap((distance) =>
    Array.from({ length: DIRECTIONS }, (_, i): Candidate => {
      const angle = (2 * Math.PI * i) / DIRECTIONS;
      const [right, down] = [Math.cos(angle), Math.sin(angle)];
      const reach = MARK_RADIUS + distance;
      const box = {
        ...{ x: x + right * (reach + width / 2) - width / 2, y: y + down * (reach + height / 2) - height / 2 },
        ...{ width, height },
      };
      return { box, distance };
    }),
  );
}

/** Who has many neighbours has few places. */
function mostCrowdedFirst(labelled: readonly Labelled[]): Labelled[] {
  const neighbours = (one: Labelled) =>
    labelled.filter((other) => Math.abs(other.x - one.x) < one.width && Math.abs(other.y - one.y) < 3 * one.height)
      .length;
  return labelled
    .map((one) => ({ one, crowd: neighbours(one) }))
    .sort((a, b) => b.crowd - a.crowd)
    .map(({ one }) => one);
}
