"""Small `nn.Module`s that know nothing of whole networks."""
