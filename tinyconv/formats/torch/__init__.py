"""The torch.nn.Sequential of a model's layers, for files of its weights.  Nothing here needs PyTorch."""
