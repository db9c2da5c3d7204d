"""Files to tensors: photographs, landmark lists, and the folder of aligned faces made from them."""
