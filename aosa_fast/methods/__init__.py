"""Everything between a clip and a map: flow, tubes, fills, gradients, and the methods made of them."""
